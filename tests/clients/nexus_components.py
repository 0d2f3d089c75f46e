"""Lists repositories and components with Sonatype's own client, and prints what it saw as JSON.

The client was made from the description that Nexus has of its REST API, and checks each answer against that. Arguments:
the address, the parameters of a search that Tagwarden uses, with commas.
"""

import inspect
import json
import sys

import nexus_api_client as nexus

address, parameters = sys.argv[1:]
saw = {}


def client(password):
    return nexus.ApiClient(nexus.Configuration(host=f"{address}/service/rest", username="reader", password=password))


def names(model):
    """The members that the description gives a model."""
    return {field.alias or name for name, field in model.model_fields.items()}


def refusal(call):
    """The status that a request was refused with."""
    try:
        call()
    except nexus.ApiException as error:
        return error.status
    return "allowed"


own = client("open sesame")
search = nexus.SearchApi(own)
repositories = nexus.RepositoryManagementApi(own).get_all_repositories()
saw["repositories"] = sorted([found.name, found.format, found.type] for found in repositories)

known = inspect.signature(search.list_search).parameters
camel = {"".join([first, *(part.title() for part in rest)]) for first, *rest in (name.split("_") for name in known)}
saw["unknown_parameters"] = sorted(set(parameters.split(",")) - camel)

components, pages, token, unknown = [], 0, None, set()
while token or not pages:
    page = search.list_search(repository="docker-hosted", format="docker", continuation_token=token)
    raw = json.loads(
        search.list_search_without_preload_content(
            repository="docker-hosted", format="docker", continuation_token=token
        ).data
    )
    unknown |= set(raw) - names(nexus.PageComponentXO)
    for item in raw["items"]:
        unknown |= set(item) - names(nexus.ComponentXO)
        for asset in item["assets"]:
            unknown |= set(asset) - names(nexus.AssetXO)
    components += page.items
    pages, token = pages + 1, page.continuation_token
saw["pages"] = pages
saw["unknown_members"] = sorted(unknown)
saw["components"] = len(components)
tags = {found.version: found.assets[0] for found in components if not found.version.startswith("sha256:")}
saw["tags"] = {
    tag: [asset.checksum["sha256"], asset.last_modified.isoformat(), asset.content_type] for tag, asset in tags.items()
}
saw["downloaded"] = {tag: asset.last_downloaded.isoformat() for tag, asset in tags.items() if asset.last_downloaded}
one = search.list_search(repository="docker-hosted", format="docker", name="shop/api", version="v1")
saw["one"] = [found.version for found in one.items]
stranger = client("wrong")
saw["wrong_password"] = refusal(lambda: nexus.SearchApi(stranger).list_search(repository="docker-hosted"))
print(json.dumps(saw))
