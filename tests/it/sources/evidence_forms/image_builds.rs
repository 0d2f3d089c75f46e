//! Places where images are made: a placeholder there is no use of an image, and keeps nothing.

use super::check;

#[test]
fn what_is_built_and_pushed_freezes_nothing() {
    check(&[
        ("docker build", &[("a.sh", "docker build -t contoso.azurecr.io/shop/api:$(Build.BuildId) .\n")], ""),
        (
            "docker buildx",
            &[("a.sh", "docker buildx build --push --tag=\"contoso.azurecr.io/shop/api:${SHA}\" .\n")],
            "",
        ),
        (
            "a command over several lines",
            &[("a.sh", "docker build \\\n  --pull \\\n  -t contoso.azurecr.io/shop/api:$SHA \\\n  .\n")],
            "",
        ),
        ("docker push", &[("a.sh", "docker push contoso.azurecr.io/shop/api:$SHA\n")], ""),
        ("docker tag", &[("a.sh", "docker tag api contoso.azurecr.io/shop/api:${VERSION}\n")], ""),
        ("az acr build", &[("a.sh", "az acr build -r contoso --image contoso.azurecr.io/shop/api:$SHA .\n")], ""),
        ("podman", &[("a.sh", "podman push api contoso.azurecr.io/shop/api:$SHA\n")], ""),
        ("skopeo", &[("a.sh", "skopeo copy oci:x docker://contoso.azurecr.io/shop/api:$SHA\n")], ""),
        (
            "a step of a pipeline",
            &[(
                "azure-pipelines.yml",
                "steps:\n- script: docker build -t contoso.azurecr.io/shop/api:$(Build.BuildId) .\n",
            )],
            "",
        ),
        (
            "a script of a pipeline",
            &[(
                "azure-pipelines.yml",
                "steps:\n- script: |\n    docker build \\\n      -t contoso.azurecr.io/shop/api:$(Build.BuildId) .\n    docker push contoso.azurecr.io/shop/api:$(Build.BuildId)\n",
            )],
            "",
        ),
        (
            "kaniko",
            &[(
                ".gitlab-ci.yml",
                "build:\n  script:\n  - /kaniko/executor --context . --destination contoso.azurecr.io/shop/api:$CI_COMMIT_SHA\n",
            )],
            "",
        ),
        (
            "kaniko's arguments",
            &[(
                "task.yaml",
                "args: [\"--dockerfile=Dockerfile\", \"--destination=contoso.azurecr.io/shop/api:$(params.tag)\"]\n",
            )],
            "",
        ),
        (
            "a command as a list",
            &[("job.yaml", "command: [docker, build, -t, \"contoso.azurecr.io/shop/api:$SHA\", .]\n")],
            "",
        ),
        (
            "build-push-action",
            &[(
                ".github/workflows/build.yml",
                "jobs:\n  build:\n    steps:\n    - uses: docker/build-push-action@v6\n      with:\n        tags: |\n          contoso.azurecr.io/shop/api:${{ github.sha }}\n          contoso.azurecr.io/shop/api:main\n",
            )],
            "shop/api:main",
        ),
        (
            "metadata-action",
            &[(
                ".github/workflows/build.yml",
                "jobs:\n  build:\n    steps:\n    - uses: docker/metadata-action@v5\n      with:\n        images: contoso.azurecr.io/shop/web\n",
            )],
            "",
        ),
        (
            "Docker@2",
            &[(
                "azure-pipelines.yml",
                "steps:\n- task: Docker@2\n  inputs:\n    command: push\n    repository: contoso.azurecr.io/shop/web\n    tags: $(Build.BuildId)\n",
            )],
            "",
        ),
        ("docker build, complete", &[("a.sh", "docker build -t contoso.azurecr.io/shop/api:v1 .\n")], "shop/api:v1"),
        ("a push's output", &[("job.log", "The push refers to repository [contoso.azurecr.io/shop/web]\n")], ""),
        ("skaffold", &[("skaffold.yaml", "build:\n  artifacts:\n  - image: contoso.azurecr.io/shop/web\n")], ""),
        (
            "jib",
            &[("build.gradle", "jib {\n  to {\n    image = \"contoso.azurecr.io/shop/web:$version\"\n  }\n}\n")],
            "",
        ),
        (
            "Jenkins",
            &[("Jenkinsfile", "def image = docker.build(\"contoso.azurecr.io/shop/web:${env.BUILD_ID}\")\n")],
            "",
        ),
        (
            "a bake file",
            &[("docker-bake.json", "{\"target\": {\"web\": {\"tags\": [\"contoso.azurecr.io/shop/web:${TAG}\"]}}}")],
            "",
        ),
    ]);
}

#[test]
fn a_variable_that_only_builds_use_freezes_nothing() {
    let workflow = |deploy: &str| {
        format!(
            "env:\n  IMAGE: contoso.azurecr.io/shop/web\njobs:\n  build:\n    steps:\n    - uses: docker/build-push-action@v6\n      with:\n        tags: ${{{{ env.IMAGE }}}}:${{{{ github.sha }}}}\n{deploy}"
        )
    };
    let script = "IMAGE=contoso.azurecr.io/shop/web:$SHA\ndocker build -t $IMAGE .\necho \"pushing $IMAGE\"\ndocker push $IMAGE\n";
    check(&[
        ("a workflow", &[(".github/workflows/a.yml", &workflow(""))], ""),
        (
            "a workflow that deploys, too",
            &[(
                ".github/workflows/a.yml",
                &workflow("    - run: kubectl set image deployment/web web=${{ env.IMAGE }}:${{ github.sha }}\n"),
            )],
            "?shop/web",
        ),
        ("a script", &[("a.sh", script)], ""),
        (
            "a script that deploys, too",
            &[("a.sh", &format!("{script}kubectl set image deployment/web web=$IMAGE\n"))],
            "?shop/web",
        ),
        (
            "a script with a name and a tag",
            &[(
                "a.sh",
                "IMAGE=contoso.azurecr.io/shop/web\nFULL=$IMAGE:$(git rev-parse HEAD)\ndocker build -t $FULL .\n",
            )],
            "",
        ),
    ]);
}

#[test]
fn what_is_taken_for_a_build_is_used() {
    check(&[
        (
            "an argument of a build",
            &[("a.sh", "docker build --build-arg BASE=contoso.azurecr.io/base/dotnet:$V .\n")],
            "?base/dotnet",
        ),
        (
            "what is copied",
            &[("a.sh", "crane copy contoso.azurecr.io/shop/web:$V other.example/web:$V\n")],
            "?shop/web",
        ),
        (
            "a deployment",
            &[("a.sh", "kubectl set image deployment/web web=contoso.azurecr.io/shop/web:$V\n")],
            "?shop/web",
        ),
        (
            "a task that deploys",
            &[(
                "azure-pipelines.yml",
                "steps:\n- task: KubernetesManifest@1\n  inputs:\n    containers: contoso.azurecr.io/shop/web:$(Build.BuildId)\n",
            )],
            "?shop/web",
        ),
    ]);
}
