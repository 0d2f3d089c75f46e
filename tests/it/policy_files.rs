//! Policy files: what is read, and how each fault is told.

use tagwarden::policy_file::{Diagnostic, parse, render};

#[test]
fn probe() {
    for text in [
        "policies:\n  - name: a\n    select: { tags: candidate-* }\n    keep:\n      - newst: 5\n      - newest: 0\n      - within: 30\n      - newest: \"5\"\n        daily: 3\n    mode: \"true\"\n    dry_run: yes\n  - name: a\n    keep: none\n    select: {}\n  - name: b\n    select:\n      pattern: candidate-*\n    group_by: [x]\n    keep: [{within: 999999d}, {within: 30M}, {newest_per: {version: mino, cont: 2}}]\n",
        "a:\n\tb: 1\n",
        "policies:\n  - select: { tags: [*foo] }\n",
        "",
        "policies: []\n---\nx: 1\n",
        "policies:\n  - name: a\n    name: b\n",
    ] {
        match parse("policies/a.yaml", text) {
            Ok(p) => eprintln!("{p:#?}"),
            Err(d) => eprintln!("{}", render(&d, false)),
        }
    }
}
