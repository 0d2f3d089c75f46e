//! Custom resources known by the name of their project.
//!
//! Groups, versions and kinds are those of the projects' own definitions. All kinds of a preset are optional, since
//! clusters install them one by one; of several versions the first that a cluster serves is used.

use super::super::FieldPath;

/// A project whose custom resources name images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// Argo CD: applications and sets of them.
    ArgoCd,
    /// Argo Rollouts: rollouts, experiments and analyses.
    ArgoRollouts,
    /// Argo Workflows: workflows, templates of them, and scheduled ones.
    ArgoWorkflows,
    /// Flux: sources, releases of Helm, kustomizations and image policies.
    Flux,
    /// Tekton: tasks, pipelines, their runs and the templates of triggers.
    Tekton,
    /// Knative: services with their revisions, and sources of events.
    Knative,
    /// KEDA: scaled jobs.
    Keda,
    /// `OpenShift`: deployment configurations, image streams and build configurations.
    OpenShift,
}

/// A kind of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PresetKind {
    pub(super) group: &'static str,
    /// The versions that have it, the preferred one first.
    pub(super) versions: &'static [&'static str],
    pub(super) kind: &'static str,
    /// The name of the resource, as rules of roles write it.
    pub(super) plural: &'static str,
    /// The paths of images; empty if they occur only among other texts.
    paths: &'static [&'static str],
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 8] = [
        Self::ArgoCd,
        Self::ArgoRollouts,
        Self::ArgoWorkflows,
        Self::Flux,
        Self::Tekton,
        Self::Knative,
        Self::Keda,
        Self::OpenShift,
    ];

    /// Returns the label used in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ArgoCd => "argo-cd",
            Self::ArgoRollouts => "argo-rollouts",
            Self::ArgoWorkflows => "argo-workflows",
            Self::Flux => "flux",
            Self::Tekton => "tekton",
            Self::Knative => "knative",
            Self::Keda => "keda",
            Self::OpenShift => "openshift",
        }
    }

    pub(super) fn kinds(self) -> &'static [PresetKind] {
        match self {
            Self::ArgoCd => &ARGO_CD,
            Self::ArgoRollouts => &ARGO_ROLLOUTS,
            Self::ArgoWorkflows => &ARGO_WORKFLOWS,
            Self::Flux => &FLUX,
            Self::Tekton => &TEKTON,
            Self::Knative => &KNATIVE,
            Self::Keda => &KEDA,
            Self::OpenShift => &OPENSHIFT,
        }
    }
}

impl PresetKind {
    pub(super) fn field_paths(&self) -> Vec<FieldPath> {
        self.paths.iter().map(|path| path.parse().expect("the paths of presets are constants that parse")).collect()
    }
}

const fn kind(
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
    paths: &'static [&'static str],
) -> PresetKind {
    PresetKind { group, versions, kind, plural, paths }
}

const ARGO: &str = "argoproj.io";
const V1ALPHA1: &[&str] = &["v1alpha1"];
const V1: &[&str] = &["v1"];

/// For an application: the running images, as Argo CD last saw them. Its sources are parsed as forms.
const ARGO_CD: [PresetKind; 2] = [
    kind(ARGO, V1ALPHA1, "Application", "applications", &["status.summary.images"]),
    kind(ARGO, V1ALPHA1, "ApplicationSet", "applicationsets", &[]),
];

const ARGO_ROLLOUTS: [PresetKind; 5] = [
    kind(ARGO, V1ALPHA1, "Rollout", "rollouts", &["spec.template"]),
    kind(ARGO, V1ALPHA1, "Experiment", "experiments", &["spec.templates"]),
    kind(ARGO, V1ALPHA1, "AnalysisTemplate", "analysistemplates", &["spec.metrics"]),
    kind(ARGO, V1ALPHA1, "ClusterAnalysisTemplate", "clusteranalysistemplates", &["spec.metrics"]),
    kind(ARGO, V1ALPHA1, "AnalysisRun", "analysisruns", &["spec.metrics"]),
];

const ARGO_WORKFLOWS: [PresetKind; 4] = [
    kind(
        ARGO,
        V1ALPHA1,
        "Workflow",
        "workflows",
        &[
            "spec.templates.container.image",
            "spec.templates.script.image",
            "spec.templates.containerSet",
            "spec.templates.initContainers.image",
            "spec.templates.sidecars.image",
            "spec.templateDefaults.container.image",
            "spec.templateDefaults.script.image",
            "status.storedTemplates.*.container.image",
            "status.storedTemplates.*.script.image",
            "status.storedTemplates.*.containerSet",
            "status.storedTemplates.*.initContainers.image",
            "status.storedTemplates.*.sidecars.image",
        ],
    ),
    kind(ARGO, V1ALPHA1, "WorkflowTemplate", "workflowtemplates", &WORKFLOW),
    kind(ARGO, V1ALPHA1, "ClusterWorkflowTemplate", "clusterworkflowtemplates", &WORKFLOW),
    kind(
        ARGO,
        V1ALPHA1,
        "CronWorkflow",
        "cronworkflows",
        &[
            "spec.workflowSpec.templates.container.image",
            "spec.workflowSpec.templates.script.image",
            "spec.workflowSpec.templates.containerSet",
            "spec.workflowSpec.templates.initContainers.image",
            "spec.workflowSpec.templates.sidecars.image",
            "spec.workflowSpec.templateDefaults.container.image",
            "spec.workflowSpec.templateDefaults.script.image",
        ],
    ),
];

/// The paths of images in a workflow.
const WORKFLOW: [&str; 7] = [
    "spec.templates.container.image",
    "spec.templates.script.image",
    "spec.templates.containerSet",
    "spec.templates.initContainers.image",
    "spec.templates.sidecars.image",
    "spec.templateDefaults.container.image",
    "spec.templateDefaults.script.image",
];

const FLUX_SOURCES: &str = "source.toolkit.fluxcd.io";
const FLUX_IMAGES: &str = "image.toolkit.fluxcd.io";
const FLUX_IMAGE_VERSIONS: &[&str] = &["v1", "v1beta2", "v1beta1"];

/// Sources and releases are parsed as forms. The image that an image policy selected counts, too.
const FLUX: [PresetKind; 7] = [
    kind(FLUX_SOURCES, &["v1", "v1beta2"], "OCIRepository", "ocirepositories", &[]),
    kind(FLUX_SOURCES, &["v1", "v1beta2", "v1beta1"], "HelmRepository", "helmrepositories", &[]),
    kind(FLUX_SOURCES, &["v1", "v1beta2", "v1beta1"], "HelmChart", "helmcharts", &[]),
    kind("helm.toolkit.fluxcd.io", &["v2", "v2beta2", "v2beta1"], "HelmRelease", "helmreleases", &[]),
    kind(
        "kustomize.toolkit.fluxcd.io",
        &["v1", "v1beta2", "v1beta1"],
        "Kustomization",
        "kustomizations",
        &["spec.images"],
    ),
    kind(FLUX_IMAGES, FLUX_IMAGE_VERSIONS, "ImageRepository", "imagerepositories", &[]),
    kind(
        FLUX_IMAGES,
        FLUX_IMAGE_VERSIONS,
        "ImagePolicy",
        "imagepolicies",
        &["status.latestImage", "status.latestRef", "status.observedPreviousImage", "status.observedPreviousRef"],
    ),
];

const TEKTON_GROUP: &str = "tekton.dev";
const TEKTON_VERSIONS: &[&str] = &["v1", "v1beta1"];

const TEKTON: [PresetKind; 7] = [
    kind(TEKTON_GROUP, TEKTON_VERSIONS, "Task", "tasks", &TASK),
    kind(TEKTON_GROUP, &["v1beta1"], "ClusterTask", "clustertasks", &TASK),
    kind(TEKTON_GROUP, &["v1beta1", "v1alpha1"], "StepAction", "stepactions", &["spec.image"]),
    kind(
        TEKTON_GROUP,
        TEKTON_VERSIONS,
        "TaskRun",
        "taskruns",
        &[
            "spec.taskSpec.steps.image",
            "spec.taskSpec.sidecars.image",
            "spec.taskSpec.stepTemplate.image",
            "status.taskSpec.steps.image",
            "status.taskSpec.sidecars.image",
            "status.taskSpec.stepTemplate.image",
        ],
    ),
    kind(
        TEKTON_GROUP,
        TEKTON_VERSIONS,
        "Pipeline",
        "pipelines",
        &[
            "spec.tasks.taskSpec.steps.image",
            "spec.tasks.taskSpec.sidecars.image",
            "spec.tasks.taskSpec.stepTemplate.image",
            "spec.finally.taskSpec.steps.image",
            "spec.finally.taskSpec.sidecars.image",
            "spec.finally.taskSpec.stepTemplate.image",
        ],
    ),
    kind(
        TEKTON_GROUP,
        TEKTON_VERSIONS,
        "PipelineRun",
        "pipelineruns",
        &[
            "spec.pipelineSpec.tasks.taskSpec.steps.image",
            "spec.pipelineSpec.tasks.taskSpec.sidecars.image",
            "spec.pipelineSpec.finally.taskSpec.steps.image",
            "status.pipelineSpec.tasks.taskSpec.steps.image",
            "status.pipelineSpec.tasks.taskSpec.sidecars.image",
            "status.pipelineSpec.finally.taskSpec.steps.image",
        ],
    ),
    kind("triggers.tekton.dev", &["v1beta1", "v1alpha1"], "TriggerTemplate", "triggertemplates", &[]),
];

/// The paths of images in a task.
const TASK: [&str; 3] = ["spec.steps.image", "spec.sidecars.image", "spec.stepTemplate.image"];

const KNATIVE_GROUP: &str = "serving.knative.dev";

const KNATIVE: [PresetKind; 4] = [
    kind(KNATIVE_GROUP, V1, "Service", "services", &["spec.template"]),
    kind(KNATIVE_GROUP, V1, "Configuration", "configurations", &["spec.template"]),
    kind(KNATIVE_GROUP, V1, "Revision", "revisions", &["spec", "status.containerStatuses.imageDigest"]),
    kind("sources.knative.dev", V1, "ContainerSource", "containersources", &["spec.template"]),
];

const KEDA: [PresetKind; 1] = [kind("keda.sh", V1ALPHA1, "ScaledJob", "scaledjobs", &["spec.jobTargetRef.template"])];

/// An image stream stores the previous images of each tag, which are rollback targets.
const OPENSHIFT: [PresetKind; 3] = [
    kind("apps.openshift.io", V1, "DeploymentConfig", "deploymentconfigs", &["spec.template"]),
    kind("image.openshift.io", V1, "ImageStream", "imagestreams", &["status.tags.items.dockerImageReference"]),
    kind("build.openshift.io", V1, "BuildConfig", "buildconfigs", &[]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_versions_and_paths_that_parse() {
        let mut labels = BTreeSet::new();
        for preset in Preset::ALL {
            assert!(labels.insert(preset.label()), "{preset:?}");
            let mut kinds = BTreeSet::new();
            for kind in preset.kinds() {
                assert!(kinds.insert((kind.group, kind.kind)), "{kind:?}");
                assert!(!kind.versions.is_empty(), "{kind:?}");
                assert_eq!(kind.field_paths().len(), kind.paths.len());
                let plural = kind.plural.bytes().all(|byte| byte.is_ascii_lowercase()) && kind.plural.ends_with('s');
                assert!(plural, "{kind:?}");
            }
        }
    }
}
