//! What is shipped around the binary: units, packages, image, manifests, chart. Each is judged by those who will read it: systemd,
//! a linter of Dockerfiles, the types of the Kubernetes API, Helm.

mod compose;
mod deb;
mod dockerfile;
mod helm;
mod kubernetes;
mod release;
mod systemd;
