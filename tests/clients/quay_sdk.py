"""Lists, moves, removes and restores tags with the client that was generated from Quay's published description, and prints
what it saw as JSON.

Arguments: the address of Quay, a token that may write, one that only reads, and the digest of an image.
"""

import json
import sys

import quayio_sdk
from quayio_sdk.rest import ApiException

address, token, narrow, digest = sys.argv[1:]
saw = {}


def client(own):
    """A client with a token; its answers have no published form, so they are read as they are."""
    configuration = quayio_sdk.Configuration()
    configuration.host = address
    configuration.access_token = own
    api = quayio_sdk.ApiClient(configuration)
    api.set_default_header("Authorization", f"Bearer {own}")
    return api


def body(call, *arguments, **more):
    answer = call(*arguments, _preload_content=False, **more)
    return json.loads(answer.data)


def refusal(call, *arguments):
    """The status and the type of error that a request was refused with."""
    try:
        call(*arguments)
    except ApiException as error:
        return [error.status, json.loads(error.body).get("error_type")]
    return "allowed"


api = client(token)
repositories, tags, manifests = (
    quayio_sdk.RepositoryApi(api), quayio_sdk.TagApi(api), quayio_sdk.ManifestApi(api))

saw["repositories"], page = [], {}
while True:
    found = body(repositories.list_repos, namespace="shop", **page)
    saw["repositories"] += [f"{row['namespace']}/{row['name']}" for row in found["repositories"]]
    if "next_page" not in found:
        break
    page = {"next_page": found["next_page"]}
about = body(repositories.get_repo, "shop/api")
saw["about"] = [about["state"], about["tag_expiration_s"], about["can_write"]]

saw["pages"], saw["tags"], number = 0, {}, 1
while True:
    found = body(tags.list_repo_tags, "shop/api", only_active_tags=True, limit=2, page=number)
    saw["pages"] += 1
    for row in found["tags"]:
        saw["tags"][row["name"]] = [row["manifest_digest"], row["is_manifest_list"], row["start_ts"]]
        saw["keys"] = sorted(row)
    if not found["has_additional"]:
        break
    number += 1
one = body(tags.list_repo_tags, "shop/api", specific_tag="v1", only_active_tags=True)["tags"]
saw["one"] = [row["manifest_digest"] for row in one]
manifest = body(manifests.get_repo_manifest, digest, "shop/api")
saw["manifest"] = [manifest["digest"], manifest["is_manifest_list"], "manifest_data" in manifest]

saw["removed_as_reader"] = refusal(quayio_sdk.TagApi(client(narrow)).delete_full_tag, "shop/api", "v1")
saw["stranger"] = refusal(quayio_sdk.TagApi(client("wrong")).list_repo_tags, "shop/api")
saw["immutable"] = refusal(tags.delete_full_tag, "shop/api", "locked")
saw["removed"] = tags.delete_full_tag_with_http_info("shop/api", "v1")[1]
saw["removed_twice"] = refusal(tags.delete_full_tag, "shop/api", "v1")
left = body(tags.list_repo_tags, "shop/api", only_active_tags=True)["tags"]
saw["left"] = sorted(row["name"] for row in left)
history = body(tags.list_repo_tags, "shop/api", specific_tag="v1", only_active_tags=False)["tags"]
saw["history"] = [[row["manifest_digest"], "end_ts" in row] for row in history]
saw["nothing_to_restore"] = refusal(tags.restore_tag, "shop/api", "v1", quayio_sdk.RestoreTag(manifest_digest="sha256:0"))
restore = quayio_sdk.RestoreTag(manifest_digest=digest)
saw["restored"] = tags.restore_tag_with_http_info("shop/api", "v1", restore)[1]
back = body(tags.list_repo_tags, "shop/api", specific_tag="v1", only_active_tags=True)["tags"]
saw["back"] = [row["manifest_digest"] for row in back]
saw["no_repository"] = refusal(tags.list_repo_tags, "shop/none")
print(json.dumps(saw))
