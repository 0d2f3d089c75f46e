//! Policy files: what is read, and how each fault is told.

use std::fmt::Write as _;

use boon::{Compiler, SchemaIndex, Schemas};
use tagwarden::policy_file::{Diagnostic, parse, render, schema};

/// Whether the JSON schema accepts a text; nothing if it is no YAML at all.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn accepts(&self, text: &str) -> Option<bool> {
        let value: serde_json::Value = serde_saphyr::from_str(text).ok()?;
        Some(self.schemas.validate(&value, self.index).is_ok())
    }
}

/// The cases of a file of cases: title and text.
fn cases(text: &str) -> Vec<(&str, &str)> {
    text.split("=== ").skip(1).map(|case| case.split_once('\n').unwrap_or((case, ""))).collect()
}

fn lines(problems: &[Diagnostic]) -> String {
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "  {problem}");
    }
    out
}

/// Every fault with its place, its words and its help, and whether editors see it, too.
#[test]
fn faults_are_told() {
    let schema = Schema::new();
    let mut told = String::new();
    for (title, text) in cases(include_str!("policy_faults.txt")) {
        let problems = parse("p.yaml", text).expect_err(title);
        let editor = match schema.accepts(text) {
            Some(true) => "accepts",
            Some(false) => "refuses",
            None => "cannot read",
        };
        let _ = writeln!(told, "{title} (the schema {editor} it)\n{}", lines(&problems));
    }
    insta::assert_snapshot!(told);
}
