"""Reads, removes and puts back images with Google's client for Python, and prints what it saw as JSON.

The client builds its requests from the published description that it carries. Arguments: the address of the API, an access
token, the digest of an image that an index lists.
"""

import json
import sys

import httplib2
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError

endpoint, token, listed = sys.argv[1:]
saw = {}
unknown = set()
document = json.loads(get_static_doc("artifactregistry", "v1"))
document["rootUrl"] = endpoint + "/"
document.pop("mtlsRootUrl", None)


def check(schema, value, at):
    """Notes the members of an answer that the published description does not have."""
    if "$ref" in schema:
        return check(document["schemas"][schema["$ref"]], value, at)
    kind = schema.get("type")
    if kind == "object":
        members, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, member in value.items():
            if name in members:
                check(members[name], member, f"{at}.{name}")
            elif others is None:
                unknown.add(f"{at}.{name}")
            elif "$ref" in others:
                check(others, member, f"{at}.{name}")
    elif kind == "array":
        for row in value:
            check(schema["items"], row, f"{at}[]")
    elif not isinstance(value, {"string": str, "boolean": bool, "integer": int, "any": object}.get(kind, object)):
        unknown.add(f"{at} is a {type(value).__name__}")
    elif "enum" in schema and value not in schema["enum"]:
        unknown.add(f"{at} is {value}")


class Bearer(httplib2.Http):
    """The transport with a token, without the library for signing in."""

    def __init__(self, token):
        super().__init__(proxy_info=None)
        self.token = token

    def request(self, uri, method="GET", body=None, headers=None, **rest):
        headers = {**(headers or {}), "authorization": f"Bearer {self.token}"}
        return super().request(uri, method=method, body=body, headers=headers, **rest)


def client(token):
    return build_from_document(document, http=Bearer(token)).projects().locations()


def method_of(request):
    """The published method of a request."""

    def walk(resources):
        for resource in resources.values():
            for method in resource.get("methods", {}).values():
                if method["id"] == request.methodId:
                    return method
            found = walk(resource.get("resources", {}))
            if found:
                return found
        return None

    return walk(document["resources"])


def call(request):
    answer = request.execute()
    check(method_of(request)["response"], answer, request.methodId)
    return answer


def refusal(request):
    """The status that a request was refused with."""
    try:
        request.execute()
    except HttpError as error:
        return [error.status_code, json.loads(error.content)["error"]["status"]]
    return "allowed"


def last(name):
    return name.rsplit("/", 1)[1]


place = "projects/acme/locations/europe-west3"
shop = f"{place}/repositories/shop"
api = f"{shop}/packages/api"
locations = client(token)
repositories = locations.repositories()
packages = repositories.packages()

found = call(repositories.list(parent=place))["repositories"]
saw["repositories"] = [
    [last(row["name"]), row.get("dockerConfig", {}).get("immutableTags", False)] for row in found
]
saw["packages"] = [last(row["name"]) for row in call(packages.list(parent=shop))["packages"]]
images, pages = [], 0
request = repositories.dockerImages().list(parent=shop, pageSize=2)
while request is not None:
    answer = call(request)
    pages += 1
    images += answer["dockerImages"]
    request = repositories.dockerImages().list_next(request, answer)
saw["images"] = {
    "pages": pages,
    "tags": sorted(tag for image in images for tag in image.get("tags", [])),
    "children": [child["digest"] for image in images for child in image.get("imageManifests", [])],
}
first = next(image for image in images if "stable" in image.get("tags", []))
saw["uploaded"] = first["uploadTime"]
digest = first["name"].rsplit("@", 1)[1]
version = f"{api}/versions/{digest}"
full = call(packages.versions().get(name=version, view="FULL"))
saw["versions"] = {
    "basic": sorted(call(packages.versions().get(name=version))),
    "tags": [last(tag["name"]) for tag in full["relatedTags"]],
}
check(document["schemas"]["DockerImage"], full["metadata"], "metadata")
call(packages.versions().list(parent=api, view="FULL", pageSize=1))
tags = call(packages.tags().list(parent=api, filter=f'version="{version}"'))["tags"]
saw["tags_of_version"] = [last(tag["name"]) for tag in tags]
asked = {"permissions": ["artifactregistry.tags.delete"]}
saw["permissions"] = call(repositories.testIamPermissions(resource=shop, body=asked))["permissions"]
call(repositories.attachments().list(parent=shop))
call(repositories.get(name=shop))

saw["untagged"] = call(packages.tags().delete(name=f"{api}/tags/v1"))
saw["after_untag"] = [
    last(tag["name"]) for tag in call(packages.versions().get(name=version, view="FULL"))["relatedTags"]
]
saw["untagged_twice"] = refusal(packages.tags().delete(name=f"{api}/tags/v1"))
body = {"name": f"{api}/tags/v1", "version": version}
saw["put_back"] = call(packages.tags().create(parent=api, tagId="v1", body=body))["version"]
saw["put_twice"] = refusal(packages.tags().create(parent=api, tagId="v1", body=body))
locked = f"{place}/repositories/locked/packages/api"
saw["immutable"] = refusal(packages.tags().delete(name=f"{locked}/tags/v1"))
saw["tagged"] = refusal(packages.versions().delete(name=version))
saw["listed"] = refusal(packages.versions().delete(name=f"{api}/versions/{listed}"))
operation = call(packages.versions().delete(name=version, force=True))
saw["deleted"] = [operation.get("done"), call(locations.operations().get(name=operation["name"]))["done"]]
saw["no_project"] = refusal(repositories.list(parent="projects/other/locations/europe-west3"))
saw["no_repository"] = refusal(packages.list(parent=f"{place}/repositories/none"))
saw["wrong_place"] = refusal(repositories.list(parent="projects/acme/locations/us"))
saw["wrong_page"] = refusal(packages.list(parent=shop, pageToken="made-up"))
saw["wrong_token"] = refusal(client("another").repositories().list(parent=place))
saw["unknown_members"] = sorted(unknown)
print(json.dumps(saw))
