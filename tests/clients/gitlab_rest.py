"""Lists repositories and reads projects with the library for GitLab that others wrote, and prints what it saw as JSON.

Arguments: the address of GitLab, a token, and one that may not read the API.
"""

import json
import sys

import gitlab

address, token, narrow = sys.argv[1:]
saw = {}


def refusal(call):
    """The status and the words that a request was refused with."""
    try:
        call()
    except gitlab.GitlabError as error:
        return [error.response_code, error.error_message]
    return "allowed"


def of_group(client, path, **more):
    return client.groups.get(path, lazy=True).registry_repositories.list(**more)


own = gitlab.Gitlab(address, private_token=token)
saw["user"] = (own.auth(), own.user.username)[1]
saw["group"] = [[found.path, found.project_id] for found in of_group(own, "shop", per_page=1, iterator=True)]
project = own.projects.get("shop/backend")
saw["project"] = [project.id, project.path_with_namespace]
saw["policy"] = project.container_expiration_policy["enabled"]
listed = project.repositories.list(get_all=True)
saw["of_project"] = [found.path for found in listed]
saw["tags"] = [found.name for found in listed[0].tags.list(get_all=True)]
saw["no_group"] = refusal(lambda: of_group(own, "none"))
saw["narrow"] = refusal(lambda: of_group(gitlab.Gitlab(address, private_token=narrow), "shop"))
saw["stranger"] = refusal(lambda: of_group(gitlab.Gitlab(address, oauth_token="wrong"), "shop"))
print(json.dumps(saw))
