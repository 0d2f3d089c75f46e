//! Splitting of a plan's JSON: the tags of its two long lists one by one, and the rest, its head.

use std::io;

/// The long lists of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanList {
    /// The tags to be removed.
    Removals,
    /// The retained tags.
    Kept,
}

/// A place in the JSON, between two pieces of it.
#[derive(Debug, Clone, Default)]
pub(super) struct PlanSplitter {
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// The last string at the top level: the key of the next value, if it is one.
    key: Vec<u8>,
    list: Option<PlanList>,
    /// The tag so far.
    tag: Vec<u8>,
    /// The places in the head at which the tags of each list were.
    places: Vec<(PlanList, usize)>,
}

/// Returns the places in a head in which the tags of the long lists belong, in order.
#[must_use]
pub fn list_places(head: &str) -> Vec<(PlanList, usize)> {
    let (mut splitter, mut copy) = (PlanSplitter::default(), Vec::with_capacity(head.len()));
    // The lists of a head are empty and are ignored here.
    match splitter.feed(head.as_bytes(), &mut copy, &mut |_, _| Ok(())) {
        Ok(()) => splitter.places,
        Err(_) => Vec::new(),
    }
}

impl PlanSplitter {
    /// Feeds more text. Everything except tags is added to `head`, in which the lists are then empty.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        head: &mut Vec<u8>,
        tag: &mut impl FnMut(PlanList, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.in_text {
                bytes = self.consume_string(bytes, head);
                continue;
            }
            bytes = rest;
            match byte {
                b'"' => {
                    self.in_text = true;
                    if self.depth == 1 {
                        self.key.clear();
                    }
                }
                b'{' | b'[' => {
                    if self.depth == 1 && byte == b'[' {
                        self.list = match self.key.as_slice() {
                            b"removals" => Some(PlanList::Removals),
                            b"kept" => Some(PlanList::Kept),
                            _ => None,
                        };
                        head.push(byte);
                        self.places.extend(self.list.map(|list| (list, head.len())));
                        self.depth += 1;
                        continue;
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 1 {
                        self.list = None;
                    }
                    if let (Some(list), 2) = (self.list, self.depth) {
                        self.tag.push(byte);
                        tag(list, &self.tag)?;
                        self.tag.clear();
                        continue;
                    }
                }
                _ => {}
            }
            match self.list {
                Some(_) if self.depth > 2 => self.tag.push(byte),
                // The commas between tags.
                Some(_) => {}
                None => head.push(byte),
            }
        }
        Ok(())
    }

    /// Consumes the rest of a string, and returns the text after it.
    fn consume_string<'b>(&mut self, bytes: &'b [u8], head: &mut Vec<u8>) -> &'b [u8] {
        let mut end = 0;
        while let Some(byte) = bytes.get(end) {
            end += 1;
            if self.escaped {
                self.escaped = false;
            } else if *byte == b'\\' {
                self.escaped = true;
            } else if *byte == b'"' {
                self.in_text = false;
                break;
            }
        }
        let (text, rest) = bytes.split_at(end);
        if self.list.is_some() {
            self.tag.extend_from_slice(text);
        } else {
            head.extend_from_slice(text);
            if self.depth == 1 {
                self.key.extend_from_slice(text.strip_suffix(b"\"").unwrap_or(text));
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{"id":"a\"[{","removals":[{"tag":"x","reasons":[{"kind":"]}\\"}]},{"tag":"y"}],"kept":[{"n":{"kept":[1]}}],"drift":[{"tag":"d"}],"removals2":[{"a":1}],"summary":{"kept":[7]}}"#;

    #[test]
    fn tags_are_taken_out_wherever_the_pieces_are_cut() {
        let expected = [
            (PlanList::Removals, r#"{"tag":"x","reasons":[{"kind":"]}\\"}]}"#),
            (PlanList::Removals, r#"{"tag":"y"}"#),
            (PlanList::Kept, r#"{"n":{"kept":[1]}}"#),
        ];
        let rest = r#"{"id":"a\"[{","removals":[],"kept":[],"drift":[{"tag":"d"}],"removals2":[{"a":1}],"summary":{"kept":[7]}}"#;
        for size in 1..=PLAN.len() {
            let (mut splitter, mut head, mut tags) = (PlanSplitter::default(), Vec::new(), Vec::new());
            for piece in PLAN.as_bytes().chunks(size) {
                let mut tag = |list, raw: &[u8]| {
                    tags.push((list, String::from_utf8(raw.to_vec()).unwrap()));
                    Ok(())
                };
                splitter.feed(piece, &mut head, &mut tag).unwrap();
            }
            assert_eq!(String::from_utf8(head).unwrap(), rest, "{size}");
            let places: Vec<_> = [PlanList::Removals, PlanList::Kept].into_iter().zip([26, 36]).collect();
            assert_eq!((&splitter.places, list_places(rest)), (&places, places.clone()), "{size}");
            assert_eq!(tags.iter().map(|(list, tag)| (*list, tag.as_str())).collect::<Vec<_>>(), expected, "{size}");
        }
    }
}
