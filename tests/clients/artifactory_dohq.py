"""Searches with the library for Artifactory that others wrote, and prints what it saw as JSON.

Arguments: the address of the API, an access token, and the query that Tagwarden sends for a list of tags.
"""

import json
import sys

from artifactory import ArtifactoryException, ArtifactoryPath

address, token, ours = sys.argv[1:]
saw = {}
FIELDS = ["repo", "path", "name", "created", "modified", "sha256", "stat.downloads", "stat.downloaded"]
MANIFESTS = [{"name": "manifest.json"}, {"name": "list.manifest.json"}]


def query(path, offset, limit):
    """The parts of a search, which the library puts together."""
    criteria = {"repo": "docker-local", "path": path, "$or": MANIFESTS}
    order = {"$asc": ["path", "name"]}
    return ["items.find", criteria, ".include", FIELDS, ".sort", order, ".offset", offset, ".limit", limit]


def parts(text):
    """The criteria of a query, whose order means nothing, and the rest of it."""
    criteria, rest = "".join(text.split()).removeprefix("items.find(").split(").include(")
    return [json.loads(criteria), rest]


def row(found):
    return [found["path"], found["name"], found["sha256"], found["modified"]]


def refusal(path, *arguments):
    """The words that a search was refused with."""
    try:
        path.aql(*arguments)
    except ArtifactoryException as error:
        return str(error)
    return "allowed"


server = ArtifactoryPath(address, token=token)
every = query({"$match": "shop/api/*"}, 0, 5000)
saw["same_query"] = parts(server.create_aql_text(*every)) == parts(ours)
rows = server.aql(*every)
saw["tags"] = [row(found) for found in rows]
saw["downloads"] = {found["path"]: found["stats"] for found in rows if found["stats"]}
saw["second_page"] = [row(found) for found in server.aql(*query({"$match": "shop/api/*"}, 1, 1))]
saw["one"] = [row(found) for found in server.aql(*query("shop/api/v2", 0, 10))]
saw["without_own_fields"] = refusal(server, "items.find", {"repo": "docker-local"}, ".include", ["sha256"])
saw["wrong_token"] = refusal(ArtifactoryPath(address, token="another"), *every)
print(json.dumps(saw))
