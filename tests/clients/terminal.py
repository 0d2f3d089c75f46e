"""Runs a program on a pseudo-terminal and answers its questions, each once it is asked.

Arguments: a JSON object with `command`, `folder` and `answers`, a list of pairs of a question's beginning and its answer.
Prints JSON with the exit code and all that was shown.
"""

import json
import os
import pty
import select
import sys
import time

job = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.chdir(job["folder"])
    environment = {"PATH": os.environ["PATH"], "HOME": job["folder"], "TERM": "xterm"}
    os.execve(job["command"][0], job["command"], environment)

shown, begin = "", 0
answers = list(job["answers"])
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    if not select.select([terminal], [], [], 0.1)[0]:
        continue
    try:
        read = os.read(terminal, 65536)
    except OSError:  # Linux says so at the end.
        break
    if not read:
        break
    shown += read.decode(errors="replace")
    if answers and answers[0][0] in shown[begin:]:
        begin = len(shown)
        os.write(terminal, (answers.pop(0)[1] + "\n").encode())
else:
    os.kill(pid, 9)
status = os.waitpid(pid, 0)[1]
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "shown": shown.replace("\r\n", "\n"), "unasked": answers}))
