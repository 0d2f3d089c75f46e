//! Definitions of variables, as shells, build files, pipelines and infrastructure code write them.

use super::placeholder::{Piece, pieces};

/// Words before the name of a variable.
const WORDS: [&str; 24] = [
    "ARG", "ENV", "SET", "const", "declare", "def", "env", "export", "final", "let", "local", "override", "param",
    "private", "public", "readonly", "set", "static", "string", "String", "val", "var", "variable", "-",
];

/// Options that define a variable for a command.
const OPTIONS: [&str; 7] = ["--build-arg", "--parameters", "--set", "--set-string", "-var", "--env", "-e"];

/// Longest value that may be a part of a reference.
const LONGEST: usize = 300;

/// A variable and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assignment<'t> {
    pub(super) name: &'t str,
    pub(super) value: &'t str,
}

/// Finds the definitions in the lines of a text.
#[derive(Default)]
pub(super) struct Reader<'t> {
    /// The variable of Terraform whose block the lines are in.
    block: Option<&'t str>,
}

impl<'t> Reader<'t> {
    /// Adds the definitions in the next line to `found`.
    pub(super) fn line(&mut self, line: &'t str, found: &mut Vec<Assignment<'t>>) {
        let rest = line.trim();
        if let Some((name, inner)) = block(rest) {
            self.block = (!inner.trim_end().ends_with('}')).then_some(name);
            found.extend(default(name, inner));
        } else if rest == "}" && !line.starts_with([' ', '\t']) {
            self.block = None;
        } else if let Some(found_default) = self.block.and_then(|name| default(name, rest)) {
            found.push(found_default);
            return;
        }
        if !rest.contains(['=', ']', ' ', '>']) {
            return;
        }
        found.extend(assignment(line));
        found.extend(rest.strip_prefix("Environment=").and_then(|pair| joined(pair.trim_matches(['"', '\'']))));
        found.extend(for_loop(rest).into_iter().flatten());
        found.extend(logging_command(rest));
        found.extend(element(rest));
        if rest.contains('-') && OPTIONS.iter().any(|option| rest.contains(option)) {
            inline(rest, found);
        }
        if let Some((before, _)) = rest.split_once(">>")
            && rest.contains("GITHUB_ENV")
        {
            let pair = before.trim().rsplit(['"', '\'', ' ']).find(|word| word.contains('='));
            found.extend(pair.and_then(joined));
        }
    }
}

/// Returns true for a value that may be a part of a reference.
pub(super) fn is_value(value: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let sound = |piece: &Piece<'_>| match piece {
        Piece::Literal(text) => text.chars().all(is_part),
        Piece::Placeholder(_) => true,
    };
    !value.is_empty() && value.len() <= LONGEST && pieces(value).iter().all(sound)
}

/// Parses a line that defines a variable: `NAME=value`, `export NAME="value"`, `ENV NAME value`, `NAME := value`,
/// `param name string = 'value'`, `name = "value"`.
pub(super) fn assignment(line: &str) -> Option<Assignment<'_>> {
    let rest = line.trim();
    let (left, right) = match rest.split_once('=') {
        Some((left, right)) if !right.starts_with(['=', '~', '>']) && !left.ends_with(['!', '<', '>', '+']) => {
            (left, right)
        }
        Some(_) => return None,
        None => {
            let (name, value) = rest.strip_prefix("ENV ")?.trim_start().split_once([' ', '\t'])?;
            return new_assignment(name, unquoted(value.trim())?);
        }
    };
    let is_joined = !left.ends_with([' ', '\t']) && !right.starts_with([' ', '\t']);
    let left = left.trim_end_matches([':', '?']);
    let mut words: Vec<&str> = left.split_whitespace().collect();
    let is_typed = words.first().is_some_and(|word| *word == "param");
    while words.len() > 1 && WORDS.contains(&words[0]) {
        words.remove(0);
    }
    let name = match words[..] {
        [name] => name,
        // Bicep writes the type after the name, other languages before it.
        [name, _] if is_typed => name,
        [_, name] if !is_joined => name,
        _ => return None,
    };
    let right = right.trim();
    let value = match unquoted(right) {
        Some(value) => value,
        // A variable for one command: `TAG=v1 docker compose up`.
        None if is_joined && is_upper(name) => right.split_whitespace().next()?,
        None => return None,
    };
    new_assignment(name, value)
}

/// Returns the name of a variable that a line sets to an unreadable value, such as the result of a call.
pub(super) fn set_to_unknown(line: &str) -> Option<&str> {
    let (left, right) = line.split_once('=')?;
    let is_comparison = right.starts_with(['=', '~', '>']) || left.ends_with(['!', '<', '>', '+']);
    if is_comparison || right.trim().is_empty() || assignment(line).is_some() {
        return None;
    }
    let left = left.trim_end().trim_end_matches([':', '?']).trim_end();
    let name = left.rsplit(|c: char| c.is_whitespace() || c == ':').next()?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(name)
}

fn new_assignment<'t>(name: &'t str, value: &'t str) -> Option<Assignment<'t>> {
    let name = name.trim_matches(['"', '\'']);
    let name = name.strip_prefix("$env:").or_else(|| name.strip_prefix('$')).unwrap_or(name);
    let name = name.strip_prefix("env.").unwrap_or(name);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    (is_name && is_value(value)).then_some(Assignment { name, value })
}

/// Parses a value without quotes; `None` for one of several words.
fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim_end_matches([';', ',']).trim_end();
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            let (value, behind) = rest.split_once(quote)?;
            let behind = behind.trim_start();
            let is_end = behind.is_empty() || behind.starts_with(['#', ';', ',', ')', '}']) || behind.starts_with("//");
            return is_end.then_some(value);
        }
    }
    let text = text.split(" #").next().unwrap_or(text).trim_end();
    is_value(text).then_some(text)
}

fn is_upper(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Parses `NAME=value` in one word.
fn joined(word: &str) -> Option<Assignment<'_>> {
    let (name, value) = word.split_once('=')?;
    new_assignment(name, value.trim_matches(['"', '\'']))
}

/// Adds definitions after the options of a command.
fn inline<'t>(line: &'t str, found: &mut Vec<Assignment<'t>>) {
    let mut option = "";
    for word in line.split_whitespace() {
        let word = word.trim_matches(['"', '\'']);
        let (name, pair) = match OPTIONS
            .iter()
            .find_map(|known| word.strip_prefix(known)?.strip_prefix('=').map(|rest| (*known, rest)))
        {
            Some(found) => found,
            None => (option, word),
        };
        option = if OPTIONS.contains(&word) { word } else { "" };
        if name.is_empty() {
            continue;
        }
        for pair in pair.trim_matches(['"', '\'']).split(',') {
            found.extend(joined(pair));
        }
    }
}

/// Parses `variable "name" {` of Terraform, and returns the rest of the line, too.
fn block(rest: &str) -> Option<(&str, &str)> {
    let (name, inner) = rest.strip_prefix("variable")?.trim_start().strip_prefix('"')?.split_once('"')?;
    Some((name, inner.trim_start().strip_prefix('{')?))
}

fn default<'t>(name: &'t str, rest: &'t str) -> Option<Assignment<'t>> {
    let (_, value) = rest.split_once("default")?;
    let value = value.trim_start().strip_prefix('=')?.trim().trim_end_matches('}').trim_end();
    new_assignment(name, unquoted(value)?)
}

/// Parses `for NAME in a b c; do`.
fn for_loop(rest: &str) -> Option<Vec<Assignment<'_>>> {
    let (name, values) = rest.strip_prefix("for ")?.split_once(" in ")?;
    let values = values.split([';', '\n']).next()?.split_whitespace();
    Some(values.filter_map(|value| new_assignment(name.trim(), unquoted(value)?)).collect())
}

/// Parses `##vso[task.setvariable variable=NAME]value` of Azure Pipelines.
fn logging_command(rest: &str) -> Option<Assignment<'_>> {
    let (_, rest) = rest.split_once("task.setvariable variable=")?;
    let (options, value) = rest.split_once(']')?;
    let name = options.split(';').next()?;
    new_assignment(name.trim(), value.trim().trim_end_matches(['"', '\'']))
}

/// Parses `<image.tag>value</image.tag>` of Maven and `MSBuild`.
fn element(rest: &str) -> Option<Assignment<'_>> {
    let (name, rest) = rest.strip_prefix('<')?.split_once('>')?;
    let (value, end) = rest.split_once("</")?;
    (end.strip_suffix('>')? == name).then_some(())?;
    new_assignment(name, value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defined(text: &str) -> String {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        text.lines().for_each(|line| reader.line(line, &mut found));
        found.iter().map(|one| format!("{}={}", one.name, one.value)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_variable_that_is_set_to_what_cannot_be_read_has_a_name() {
        for (line, expected) in [
            ("if prod: tag = os.environ[\"RELEASE\"]", Some("tag")),
            ("  const tag = await latest(\"api\");", Some("tag")),
            ("tag := image.Tag(ctx)", Some("tag")),
            ("TAG=v1", None),
            ("tag = \"v1\"", None),
            ("if tag == other.tag():", None),
            ("tag =", None),
        ] {
            assert_eq!(set_to_unknown(line), expected, "{line}");
        }
    }

    #[test]
    fn definitions_are_read_in_many_languages() {
        for (text, expected) in [
            ("TAG=v1", "TAG=v1"),
            ("export TAG=\"v1\" # the tag", "TAG=v1"),
            (
                "REGISTRY=contoso.azurecr.io\nIMAGE=$REGISTRY/shop/api",
                "REGISTRY=contoso.azurecr.io IMAGE=$REGISTRY/shop/api",
            ),
            ("TAG=$(git rev-parse HEAD)", "TAG=$(git rev-parse HEAD)"),
            ("TAG=v1 docker compose up -d", "TAG=v1"),
            ("level=info msg=done", ""),
            ("TAG=", ""),
            ("A == B", ""),
            ("A+=b", ""),
            ("if [ $A != b ]; then", ""),
            ("ARG TAG=v1", "TAG=v1"),
            ("ARG TAG", ""),
            ("ENV TAG=v1", "TAG=v1"),
            ("ENV TAG v1", "TAG=v1"),
            ("TAG ?= v1\nIMAGE := $(REGISTRY)/shop/api", "TAG=v1 IMAGE=$(REGISTRY)/shop/api"),
            ("$tag = 'v1'", "tag=v1"),
            ("$env:TAG = \"v1\"", "TAG=v1"),
            ("const tag = \"v1\";", "tag=v1"),
            ("private static final String TAG = \"v1\";", "TAG=v1"),
            ("  environment { TAG = 'v1' }", ""),
            ("param tag string = 'v1'", "tag=v1"),
            ("param tag string", ""),
            ("var image = '${registry}/shop/api'", "image=${registry}/shop/api"),
            ("locals {\n  tag = \"v1\"\n}", "tag=v1"),
            (
                "variable \"tag\" {\n  type    = string\n  default = \"v1\"\n}\ndefault = \"x\"",
                "type=string tag=v1 default=x",
            ),
            ("variable \"tag\" { default = \"v1\" }", "tag=v1"),
            ("tag = var.tag", "tag=var.tag"),
            ("for app in api web; do", "app=api app=web"),
            ("echo \"TAG=v1\" >> $GITHUB_ENV", "TAG=v1"),
            ("echo \"##vso[task.setvariable variable=tag;isOutput=true]v1\"", "tag=v1"),
            ("docker build --build-arg TAG=v1 --build-arg=A=b .", "TAG=v1 A=b"),
            ("terraform apply -var 'tag=v1'", "tag=v1"),
            ("helm upgrade api --set image.tag=v1,replicas=2", "image.tag=v1 replicas=2"),
            ("image.tag=v1", "image.tag=v1"),
            ("Environment=TAG=v1\nEnvironment=\"A=b\"", "TAG=v1 A=b"),
            ("<image.tag>v1</image.tag>", "image.tag=v1"),
            ("<a>v1</b>", ""),
            ("a sentence = of some words", ""),
        ] {
            assert_eq!(defined(text), expected, "{text}");
        }
    }
}
