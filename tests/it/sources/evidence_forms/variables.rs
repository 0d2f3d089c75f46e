//! References with variables, which stand for what the same source defines.

use super::check;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn variables_are_read_where_they_are_defined() {
    let compose = "services:\n  api:\n    image: ${REGISTRY}/shop/api:${TAG}\n";
    let defaults = "services:\n  api:\n    image: ${REGISTRY:-contoso.azurecr.io}/shop/api:${TAG:-v1}\n";
    let pipeline = |tag: &str| {
        format!(
            "variables:\n  registry: contoso.azurecr.io\n  repository: shop/api\n  tag: {tag}\nsteps:\n- task: KubernetesManifest@1\n  inputs:\n    containers: $(registry)/$(repository):$(tag)\n"
        )
    };
    check(&[
        (
            "a compose file's default",
            &[("compose.yaml", "services:\n  api:\n    image: ${API_IMAGE:-contoso.azurecr.io/shop/api:v1}\n")],
            "shop/api:v1",
        ),
        ("defaults in parts", &[("compose.yaml", defaults)], "shop/api:v1"),
        (
            "a variable beside one that is not used, in one line",
            &[(
                "a.json",
                r#"{"variables":{"A":"contoso.azurecr.io/shop/web","B":"contoso.azurecr.io/shop/api"},"x":"$(A):v1"}"#,
            )],
            "?shop/api shop/api:latest shop/api:v1 shop/web:v1",
        ),
        (
            "a compose file and its .env",
            &[("compose.yaml", compose), (".env", "REGISTRY=contoso.azurecr.io\nTAG=v1\n")],
            "shop/api:v1",
        ),
        (
            "a script",
            &[("a.sh", "REGISTRY=contoso.azurecr.io\nexport TAG=\"v1\"\ndocker run $REGISTRY/shop/api:${TAG}\n")],
            "shop/api:v1",
        ),
        (
            "a command's own",
            &[
                ("a.sh", "TAG=v1 docker compose up\n"),
                ("compose.yaml", "services:\n  api:\n    image: contoso.azurecr.io/shop/api:$TAG\n"),
            ],
            "shop/api:v1",
        ),
        (
            "a Dockerfile",
            &[("Dockerfile", "ARG REGISTRY=contoso.azurecr.io\nARG TAG=8.0\nFROM ${REGISTRY}/base/dotnet:${TAG}\n")],
            "base/dotnet:8.0",
        ),
        (
            "a build's argument",
            &[
                ("Dockerfile", "ARG TAG\nFROM contoso.azurecr.io/base/dotnet:${TAG}\n"),
                ("build.sh", "docker build --build-arg TAG=8.0 .\n"),
            ],
            "base/dotnet:8.0",
        ),
        ("a pipeline", &[("azure-pipelines.yml", &pipeline("v1"))], "shop/api:v1"),
        ("a pipeline's number", &[("azure-pipelines.yml", &pipeline("$(Build.BuildId)"))], "?shop/api"),
        (
            "a pipeline's list",
            &[(
                "azure-pipelines.yml",
                "variables:\n- name: Tag\n  value: v1\nsteps:\n- script: kubectl run x --image=contoso.azurecr.io/shop/api:$(tag)\n",
            )],
            "shop/api:v1",
        ),
        (
            "a parameter",
            &[(
                "azure-pipelines.yml",
                "parameters:\n- name: tag\n  default: v1\nsteps:\n- script: kubectl run x --image=contoso.azurecr.io/shop/api:${{ parameters.tag }}\n",
            )],
            "shop/api:v1",
        ),
        (
            "GitLab",
            &[(
                ".gitlab-ci.yml",
                "variables:\n  TAG: v1\ndeploy:\n  script:\n  - kubectl run x --image=contoso.azurecr.io/shop/api:$TAG\n",
            )],
            "shop/api:v1",
        ),
        (
            "GitHub",
            &[(
                ".github/workflows/a.yml",
                "env:\n  TAG: v1\njobs:\n  a:\n    steps:\n    - run: kubectl run x --image=contoso.azurecr.io/shop/api:${{ env.TAG }}\n",
            )],
            "shop/api:v1",
        ),
        (
            "a name and a tag in .env",
            &[
                ("compose.yaml", "services:\n  api:\n    image: ${API_IMAGE}:${API_TAG}\n"),
                (".env", "API_IMAGE=contoso.azurecr.io/shop/api\nAPI_TAG=v1\n"),
            ],
            "shop/api:v1",
        ),
        (
            "systemd",
            &[(
                "api.service",
                "[Service]\nEnvironment=TAG=v1\nExecStart=/usr/bin/docker run contoso.azurecr.io/shop/api:${TAG}\n",
            )],
            "shop/api:v1",
        ),
        (
            "Terraform",
            &[
                (
                    "main.tf",
                    "locals {\n  registry = \"contoso.azurecr.io\"\n}\nresource \"x\" \"y\" {\n  image = \"${local.registry}/shop/api:${var.tag}\"\n}\n",
                ),
                ("variables.tf", "variable \"tag\" {\n  type    = string\n  default = \"v1\"\n}\n"),
                ("env/prod.tfvars", "tag = \"v3\"\n"),
            ],
            "shop/api:v1 shop/api:v3",
        ),
        (
            "Terraform's registry",
            &[("main.tf", "image = \"${azurerm_container_registry.acr.login_server}/shop/api:v1\"\n")],
            "shop/api:v1",
        ),
        (
            "Bicep",
            &[("main.bicep", "param tag string = 'v1'\nvar image = '${acr.properties.loginServer}/shop/api:${tag}'\n")],
            "shop/api:v1",
        ),
        (
            "Ansible",
            &[
                (
                    "play.yml",
                    "- hosts: all\n  tasks:\n  - docker_container:\n      image: \"{{ registry }}/shop/api:{{ api_tag }}\"\n",
                ),
                ("group_vars/all.yml", "registry: contoso.azurecr.io\napi_tag: v1\n"),
            ],
            "shop/api:v1",
        ),
        (
            "make",
            &[(
                "Makefile",
                "REGISTRY ?= contoso.azurecr.io\nTAG := v1\nrun:\n\tdocker run $(REGISTRY)/shop/api:$(TAG)\n",
            )],
            "shop/api:v1",
        ),
        (
            "a chart's template",
            &[
                (
                    "api/templates/deployment.yaml",
                    "image: \"contoso.azurecr.io/shop/api:{{ .Values.image.tag | default .Chart.AppVersion }}\"\n",
                ),
                ("api/Chart.yaml", "apiVersion: v2\nname: api\nversion: 0.1.0\nappVersion: v1\n"),
                ("api/values.yaml", "image:\n  pullPolicy: Always\n"),
            ],
            "shop/api:v1",
        ),
        (
            "PowerShell",
            &[("a.ps1", "$tag = 'v1'\nkubectl run x --image=\"contoso.azurecr.io/shop/api:$tag\"\n")],
            "shop/api:v1",
        ),
        ("Maven", &[("pom.xml", "<tag>v1</tag>\n<image>contoso.azurecr.io/shop/api:${tag}</image>\n")], "shop/api:v1"),
        (
            "several values",
            &[
                ("a.env", "TAG=v1\n"),
                ("b.env", "TAG=v3\n"),
                ("compose.yaml", "services:\n  api:\n    image: contoso.azurecr.io/shop/api:${TAG}\n"),
            ],
            "shop/api:v1 shop/api:v3",
        ),
        (
            "a variable in a variable",
            &[("a.sh", "R=contoso.azurecr.io\nIMAGE=$R/shop/api\nFULL=$IMAGE:v1\ndocker run $FULL\n")],
            "shop/api:v1",
        ),
        ("a part of the host", &[("a.sh", "ACR=contoso\ndocker run $ACR.azurecr.io/shop/api:v1\n")], "shop/api:v1"),
        (
            "a name in a variable",
            &[("a.sh", "IMAGE=contoso.azurecr.io/shop/api\ndocker run $IMAGE:v1\n")],
            "shop/api:v1",
        ),
        (
            "values in braces",
            &[("a.sh", "docker pull contoso.azurecr.io/shop/{api,web}:v1\n")],
            "shop/api:v1 shop/web:v1",
        ),
    ]);
}

#[test]
fn what_nothing_defines_keeps_what_it_could_mean() {
    check(&[
        (
            "a value that cannot be read beside one that can",
            &[(
                "deploy.py",
                "tag = \"v1\"\nif prod: tag = os.environ[\"RELEASE\"]\nimage = f\"contoso.azurecr.io/shop/api:{tag}\"\n",
            )],
            "?shop/api shop/api:v1",
        ),
        (
            "no coincidence",
            &[(
                "deploy.yaml",
                "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: contoso.azurecr.io/shop/api:$(TAG)\n",
            )],
            "?shop/api",
        ),
        ("a host and a tag", &[("a.yaml", "image: $(REGISTRY)/shop/web:$(TAG)\n")], "?shop/web"),
        ("a host", &[("a.yaml", "image: $(REGISTRY)/shop/web:v1\n")], "shop/web:v1"),
        ("no host", &[("a.yaml", "image: shop/web:$(TAG)\n")], "?shop/web"),
        ("no host in a script", &[("a.tf", "image = \"shop/web:${var.tag}\"\n")], "?shop/web"),
        ("no host and a tag", &[("a.yaml", "image: shop/web:v1\n")], "shop/web:v1"),
        ("another registry", &[("a.yaml", "image: ghcr.io/shop/web:$(TAG)\n")], ""),
        ("a folder", &[("a.sh", "cd ${ROOT}/shop/web\ncp $HOME/shop/web:x .\n-v ${PWD}/shop/web:/data\n")], ""),
        (
            "the environment of a container is no definition",
            &[(
                "a.yaml",
                "kind: Pod\nspec:\n  containers:\n  - image: contoso.azurecr.io/shop/web:$(TAG)\n    env:\n    - name: TAG\n      value: x9\n",
            )],
            "?shop/web",
        ),
        (
            "far away, and no tag",
            &[("x/.env", "TAG=v9\n"), ("y/a.yaml", "image: contoso.azurecr.io/shop/web:${TAG}\n")],
            "?shop/web",
        ),
        (
            "far away, and a tag",
            &[("x/.env", "TAG=v1\n"), ("y/a.yaml", "image: contoso.azurecr.io/shop/web:${TAG}\n")],
            "?shop/web shop/web:v1",
        ),
        (
            "a command's output",
            &[(
                "a.sh",
                "TAG=$(git rev-parse HEAD)\nkubectl set image deploy/web web=contoso.azurecr.io/shop/web:$TAG\n",
            )],
            "?shop/web",
        ),
    ]);
}
