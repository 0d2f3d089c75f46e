"""Lists, untags and tags artifacts with Harbor's own client for Python, and prints what it saw as JSON.

The client was made from Harbor's description of its API. Arguments: the address, user and secret.
"""

import json
import sys

import harbor_client as harbor
from harbor_client.rest import ApiException

address, user, secret = sys.argv[1:]
saw = {}


def client(secret):
    settings = harbor.Configuration()
    settings.host, settings.username, settings.password = f"{address}/api/v2.0", user, secret
    return harbor.ApiClient(settings)


def refusal(call, *arguments, **more):
    """The status and the code that a request was refused with."""
    try:
        call(*arguments, **more)
    except ApiException as error:
        return [error.status, json.loads(error.body)["errors"][0]["code"]]
    return "allowed"


own = client(secret)
artifacts = harbor.ArtifactApi(own)
EVERYTHING = {"with_tag": True, "with_immutable_status": True, "page_size": 100}


def tags(name):
    """The tags of each artifact of a repository, by its digest."""
    rows = artifacts.list_artifacts("shop", name, **EVERYTHING)
    return {row.digest: sorted(tag.name for tag in row.tags or []) for row in rows}


saw["projects"] = [found.name for found in harbor.ProjectApi(own).list_projects(page_size=100)]
saw["repositories"] = sorted(found.name for found in harbor.RepositoryApi(own).list_repositories("shop"))
rows = artifacts.list_artifacts("shop", "api", **EVERYTHING)
saw["artifacts"] = {row.digest: [row.type, len(row.references or [])] for row in rows}
saw["pushed"] = sorted(row.push_time.isoformat() for row in rows)
one, _, headers = artifacts.list_artifacts_with_http_info("shop", "api", page_size=1)
saw["page"] = [len(one), headers.get("X-Total-Count"), 'rel="next"' in headers.get("Link", "")]
saw["immutable"] = [tag.name for row in rows for tag in row.tags or [] if tag.immutable]
saw["tags"] = tags("api")
# Each slash of a repository's name is encoded twice.
saw["nested"] = list(tags("web%2Ffront").values())
first = next(digest for digest, names in saw["tags"].items() if "v1" in names)
other = next(digest for digest, names in saw["tags"].items() if "multi" in names)
saw["moved"] = refusal(artifacts.delete_tag, "shop", "api", other, "v1")
saw["locked"] = refusal(artifacts.delete_tag, "shop", "api", first, "locked")
artifacts.delete_tag("shop", "api", first, "v1")
saw["untagged"] = tags("api")[first]
saw["again"] = refusal(artifacts.delete_tag, "shop", "api", first, "v1")
artifacts.create_tag("shop", "api", first, harbor.Tag(name="v1"))
saw["tagged"] = tags("api")[first]
saw["twice"] = refusal(artifacts.create_tag, "shop", "api", first, harbor.Tag(name="v1"))
saw["no_project"] = refusal(artifacts.list_artifacts, "none", "api")
saw["wrong_secret"] = refusal(harbor.ArtifactApi(client("wrong")).list_artifacts, "shop", "api")
print(json.dumps(saw))
