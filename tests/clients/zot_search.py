"""Asks zot's search with the GraphQL library of others, and prints what it saw as JSON.

The library holds each question against a schema before it is sent, and each answer as well. The schema has the types
and members of zot's own that matter here. Arguments: the address, user and password, the questions that Tagwarden sent,
as JSON.
"""

import json
import sys

import graphql
import requests

address, user, password, questions = sys.argv[1:]
saw = {}
schema = graphql.build_schema(
    """
    scalar Time
    enum SortCriteria { RELEVANCE UPDATE_TIME ALPHABETIC_ASC ALPHABETIC_DSC SEVERITY STARS DOWNLOADS }
    input PageInput { limit: Int offset: Int sortBy: SortCriteria }
    type PageInfo { TotalCount: Int! ItemCount: Int! }
    type Platform { Os: String Arch: String }
    type Referrer { MediaType: String ArtifactType: String Size: Int Digest: String }
    type ManifestSummary {
      Digest: String ConfigDigest: String Size: String DownloadCount: Int ArtifactType: String
      Platform: Platform Referrers: [Referrer]
    }
    type ImageSummary {
      RepoName: String Tag: String Digest: String MediaType: String ArtifactType: String Size: String DownloadCount: Int
      LastPullTimestamp: Time PushTimestamp: Time TaggedTimestamp: Time IsDeletable: Boolean
      Manifests: [ManifestSummary] Referrers: [Referrer]
    }
    type RepoSummary { Name: String }
    type RepoInfo { Images: [ImageSummary] Summary: RepoSummary }
    type PaginatedImagesResult { Page: PageInfo Results: [ImageSummary!]! }
    type Query {
      ImageList(repo: String!, requestedPage: PageInput): PaginatedImagesResult!
      ExpandedRepoInfo(repo: String!): RepoInfo!
    }
    """
)


def ask(question, method="POST"):
    url, auth = f"{address}/v2/_zot/ext/search", (user, password)
    if method == "POST":
        return requests.post(url, json={"query": question}, auth=auth)
    return requests.get(url, params={"query": question}, auth=auth)


def problems(question, data):
    """The faults that the library finds in a question, or in the answer to it."""
    document = graphql.parse(question)
    found = graphql.validate(schema, document)
    if not found:
        # Each member is looked up in the answer, and has to be of its type.
        done = graphql.execute_sync(schema, document, root_value=data)
        found = done.errors or ([] if done.data == data else [f"{done.data} is not {data}"])
    return [str(problem) for problem in found]


every = sorted(set(json.loads(questions)))
saw["asked"] = sorted({question.strip("{ ").split("(")[0] for question in every})
saw["problems"] = [problem for question in every for problem in problems(question, ask(question, "GET").json()["data"])]
page = """{ ImageList(repo: "shop/api", requestedPage: { limit: 2, offset: 1, sortBy: ALPHABETIC_ASC }) {
  Page { TotalCount ItemCount }
  Results { Tag Digest MediaType Size PushTimestamp TaggedTimestamp LastPullTimestamp IsDeletable
            Manifests { Digest ConfigDigest Platform { Os Arch } } Referrers { Digest Size } } } }"""
answer = ask(page).json()["data"]
saw["page_problems"] = problems(page, answer)
saw["page"] = answer["ImageList"]["Page"]
saw["tags"] = [[row["Tag"], row["Digest"], len(row["Manifests"])] for row in answer["ImageList"]["Results"]]
saw["tagged"] = [row["TaggedTimestamp"] for row in answer["ImageList"]["Results"]]
unknown = '{ ImageList(repo: "shop/api") { Results { Tags } } }'
refused = ask(unknown)
saw["unknown"] = [refused.status_code, refused.json()["errors"][0]["message"]]
saw["same_refusal"] = graphql.validate(schema, graphql.parse(unknown))[0].message.replace("'", '"')
saw["description"] = requests.get(f"{address}/v2/_zot/ext/mgmt").json()["releaseTag"]
saw["stranger"] = requests.get(f"{address}/v2/_oci/ext/discover").status_code
print(json.dumps(saw))
