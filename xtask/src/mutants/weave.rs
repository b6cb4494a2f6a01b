//! All mutants of a file in one text: each place chooses at run time, by the number of the mutant,
//! whether it is as written or as one of its mutants. So a core is compiled a few times, and not
//! once for each mutant. Where the choice cannot be made at run time, such as in a constant, a
//! mutant is left for a text of its own.

use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::list::{Genre, Mutant};

/// What asks, in the woven text, whether a mutant is the one of this run.
pub(super) const QUESTION: &str = "crate::chosen_mutant";

/// A file with mutants in it.
pub(super) struct Woven {
    pub(super) text: String,
    /// Where each mutant is in the text.
    pub(super) mutants: Vec<(usize, Range<usize>)>,
}

impl Woven {
    /// The mutant around a place of the text; the innermost one.
    pub(super) fn mutant_at(&self, place: usize) -> Option<usize> {
        let around = self.mutants.iter().filter(|(_, at)| at.contains(&place));
        around
            .min_by_key(|(_, at)| at.len())
            .map(|(number, _)| *number)
    }
}

/// The places of a file at which something chooses.
pub(super) struct Places<'a> {
    source: &'a str,
    mutants: &'a [Mutant],
    /// Outer ones before those that are within them.
    places: Vec<Place>,
    /// The mutants that have found no place.
    left: Vec<usize>,
    /// Where the bodies begin that cannot choose what they return: of functions whose type is
    /// known by their body only.
    hidden: Vec<usize>,
}

struct Place {
    /// What of the source it stands for; empty where it only adds something.
    at: Range<usize>,
    kind: Kind,
}

enum Kind {
    /// Text that does not depend on a mutant.
    Text(&'static str),
    /// At the beginning of a function: each number with what it returns.
    Returns(Vec<(usize, String)>),
    /// After the pattern of an arm: it does not match in this mutant.
    Unless(usize),
    /// An expression with its mutants.
    Choice(Vec<(usize, Vec<Piece>)>, Vec<Piece>),
}

/// A part of what is written: as it is, or as the source has it, woven.
#[derive(Clone)]
enum Piece {
    Text(String),
    Source(Range<usize>),
}

impl<'a> Places<'a> {
    /// Finds the place of each mutant.
    pub(super) fn find(source: &'a str, mutants: &'a [Mutant]) -> Result<Self, String> {
        let file = syn::parse_file(source).map_err(|error| format!("cannot parse: {error}"))?;
        let mut places = Places {
            source,
            mutants,
            places: Vec::new(),
            left: (0..mutants.len()).collect(),
            hidden: Vec::new(),
        };
        places.visit_file(&file);
        Ok(places)
    }

    /// The mutants that need a text of their own.
    pub(super) fn left(&self) -> &[usize] {
        &self.left
    }

    /// The source with this mutant alone, in place of what it replaces.
    pub(super) fn alone(&self, number: usize) -> Option<String> {
        let mutant = self.mutants.get(number)?;
        let mut text = self.source.to_owned();
        text.replace_range(mutant.at.clone(), &mutant.replacement);
        Some(text)
    }

    /// The source with the mutants that `wanted` accepts.
    pub(super) fn weave(&self, wanted: impl Fn(usize) -> bool) -> Woven {
        let mut woven = Woven {
            text: String::new(),
            mutants: Vec::new(),
        };
        self.write(0..self.source.len(), 0, &wanted, &mut woven);
        woven
    }

    /// Writes a part of the source with the places in it, of those from number `first` on.
    fn write(
        &self,
        part: Range<usize>,
        first: usize,
        wanted: &dyn Fn(usize) -> bool,
        woven: &mut Woven,
    ) {
        let mut written = part.start;
        for (number, place) in self.places.iter().enumerate().skip(first) {
            // What is within a place that was written has been written with it.
            if place.at.start < written || place.at.end > part.end {
                continue;
            }
            woven
                .text
                .push_str(self.source.get(written..place.at.start).unwrap_or_default());
            self.write_place(place, number + 1, wanted, woven);
            written = place.at.end;
        }
        woven
            .text
            .push_str(self.source.get(written..part.end).unwrap_or_default());
    }

    fn write_place(
        &self,
        place: &Place,
        inner: usize,
        wanted: &dyn Fn(usize) -> bool,
        woven: &mut Woven,
    ) {
        match &place.kind {
            Kind::Text(text) => woven.text.push_str(text),
            Kind::Returns(values) => {
                for (number, value) in values.iter().filter(|(number, _)| wanted(*number)) {
                    woven
                        .text
                        .push_str(&format!("if {QUESTION}({number}) {{ return "));
                    let start = woven.text.len();
                    woven.text.push_str(value);
                    woven.mutants.push((*number, start..woven.text.len()));
                    woven.text.push_str("; }\n");
                }
            }
            Kind::Unless(number) if wanted(*number) => {
                let start = woven.text.len();
                woven.text.push_str(&format!(" if !{QUESTION}({number})"));
                woven.mutants.push((*number, start..woven.text.len()));
            }
            Kind::Unless(_) => {}
            Kind::Choice(mutants, original) => {
                woven.text.push('(');
                for (number, pieces) in mutants.iter().filter(|(number, _)| wanted(*number)) {
                    woven.text.push_str(&format!("if {QUESTION}({number}) {{ "));
                    let start = woven.text.len();
                    self.write_pieces(pieces, inner, wanted, woven);
                    woven.mutants.push((*number, start..woven.text.len()));
                    woven.text.push_str(" } else ");
                }
                woven.text.push_str("{ ");
                self.write_pieces(original, inner, wanted, woven);
                woven.text.push_str(" })");
            }
        }
    }

    fn write_pieces(
        &self,
        pieces: &[Piece],
        inner: usize,
        wanted: &dyn Fn(usize) -> bool,
        woven: &mut Woven,
    ) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => woven.text.push_str(text),
                Piece::Source(part) => self.write(part.clone(), inner, wanted, woven),
            }
        }
    }

    /// Takes the mutants of this kind that begin at `start`: number and replacement.
    fn take(&mut self, genre: Genre, start: usize) -> Vec<(usize, String)> {
        let mutants = self.mutants;
        let is_here = |number: &usize| {
            let mutant = mutants.get(*number);
            mutant.is_some_and(|mutant| mutant.genre == genre && mutant.at.start == start)
        };
        let (here, left) = self.left.iter().partition(|number| is_here(number));
        self.left = left;
        let here: Vec<usize> = here;
        let replacement = |number: usize| mutants.get(number).map(|m| m.replacement.clone());
        here.into_iter()
            .filter_map(|number| Some((number, replacement(number)?)))
            .collect()
    }

    fn add(&mut self, at: Range<usize>, kind: Kind) {
        self.places.push(Place { at, kind });
    }

    fn begin(&mut self, signature: &syn::Signature, body: &syn::Block, function: Span) {
        if let syn::ReturnType::Type(_, result) = &signature.output
            && is_hidden(result)
            && let Some(first) = body.stmts.first()
        {
            self.hidden.push(first.span().byte_range().start);
        }
        // A function that asks cannot be constant.
        let function = function.byte_range();
        let inside = |mutant: &Mutant| function.contains(&mutant.at.start);
        if let Some(word) = &signature.constness
            && self.mutants.iter().any(inside)
        {
            self.add(word.span.byte_range(), Kind::Text(""));
        }
    }
}

fn source(node: &impl Spanned) -> Piece {
    Piece::Source(node.span().byte_range())
}

fn text(text: impl Into<String>) -> Piece {
    Piece::Text(text.into())
}

/// Conditions with `let` in them are no values: they cannot be chosen, nor joined by `||`.
fn has_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(both) => has_let(&both.left) || has_let(&both.right),
        _ => false,
    }
}

/// Whether the type says `impl Trait` somewhere.
fn is_hidden(result: &syn::Type) -> bool {
    struct Finder(bool);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_type_impl_trait(&mut self, _: &'ast syn::TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut finder = Finder(false);
    finder.visit_type(result);
    finder.0
}

impl<'ast> Visit<'ast> for Places<'_> {
    /// Nothing chooses in a constant, nor in the length of an array.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.begin(&node.sig, &node.block, node.span());
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.begin(&node.sig, &node.block, node.span());
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_block(&mut self, node: &'ast syn::Block) {
        if let Some(first) = node.stmts.first() {
            let start = first.span().byte_range().start;
            if !self.hidden.contains(&start) {
                let values = self.take(Genre::Body, start);
                if !values.is_empty() {
                    self.add(start..start, Kind::Returns(values));
                }
            }
        }
        visit::visit_block(self, node);
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        if !has_let(&node.left) && !has_let(&node.right) {
            let operator = node.op.span().byte_range();
            let mutants = self.take(Genre::BinaryOperator, operator.start);
            let with = |operator: &str| {
                let (left, right) = (source(&node.left), source(&node.right));
                let middle = text(format!(") {operator} ("));
                vec![text("("), left, middle, right, text(")")]
            };
            if !mutants.is_empty() {
                let mutants = mutants.into_iter().map(|(n, other)| (n, with(&other)));
                let written = self.source.get(operator).unwrap_or_default();
                let kind = Kind::Choice(mutants.collect(), with(written));
                self.add(node.span().byte_range(), kind);
            }
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let operator = node.op.span().byte_range();
        let mutants = self.take(Genre::UnaryOperator, operator.start);
        if !mutants.is_empty() {
            let mutants = mutants
                .into_iter()
                .map(|(n, _)| (n, vec![source(&node.expr)]));
            let written = self.source.get(operator).unwrap_or_default();
            let original = vec![text(written), source(&node.expr)];
            let kind = Kind::Choice(mutants.collect(), original);
            self.add(node.span().byte_range(), kind);
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        let deleted = self.take(Genre::Arm, node.span().byte_range().start);
        match &node.guard {
            Some((_, guard)) => {
                let at = guard.span().byte_range();
                let mut mutants = self.take(Genre::Guard, at.start);
                mutants.extend(deleted.into_iter().map(|(n, _)| (n, "false".to_owned())));
                if !mutants.is_empty() {
                    let mutants = mutants.into_iter().map(|(n, value)| (n, vec![text(value)]));
                    let original = vec![Piece::Source(at.clone())];
                    self.add(at, Kind::Choice(mutants.collect(), original));
                }
            }
            None => {
                let end = node.pat.span().byte_range().end;
                for (number, _) in deleted {
                    self.add(end..end, Kind::Unless(number));
                }
            }
        }
        visit::visit_arm(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        let at = node.span().byte_range();
        let mut mutants = Vec::new();
        for field in node.fields.pairs() {
            let field = field.span().byte_range();
            for (number, _) in self.take(Genre::Field, field.start) {
                let before = Piece::Source(at.start..field.start);
                let after = Piece::Source(field.end..at.end);
                mutants.push((number, vec![before, after]));
            }
        }
        if !mutants.is_empty() {
            let original = vec![Piece::Source(at.clone())];
            self.add(at, Kind::Choice(mutants, original));
        }
        visit::visit_expr_struct(self, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mutant of the first place where `source` says `part`.
    fn mutant(genre: Genre, source: &str, part: &str, replacement: &str) -> Mutant {
        let start = source.find(part).unwrap();
        Mutant {
            name: String::new(),
            genre,
            at: start..start + part.len(),
            replacement: replacement.to_owned(),
        }
    }

    #[test]
    fn each_place_chooses_between_what_is_written_and_its_mutants() {
        let source = "fn f(a: u8) -> bool { !g(a > 1) }";
        let mutants = [
            mutant(Genre::Body, source, "!g(a > 1)", "true"),
            mutant(Genre::UnaryOperator, source, "!", ""),
            mutant(Genre::BinaryOperator, source, ">", ""),
            mutant(Genre::BinaryOperator, source, "> 1", ">="),
        ];
        // The arrow has the same sign.
        let mut mutants = mutants.to_vec();
        mutants[2].at = mutants[3].at.start..mutants[3].at.start + 1;
        mutants[2].replacement = "==".to_owned();
        let places = Places::find(source, &mutants).unwrap();
        assert!(places.left().is_empty());
        let ask = |number| format!("if crate::chosen_mutant({number})");
        let compares = format!(
            "({} {{ (a) == (1) }} else {} {{ (a) >= (1) }} else {{ (a) > (1) }})",
            ask(2),
            ask(3)
        );
        let expected = format!(
            "fn f(a: u8) -> bool {{ {} {{ return true; }}\n\
             ({} {{ g({compares}) }} else {{ !g({compares}) }}) }}",
            ask(0),
            ask(1)
        );
        assert_eq!(places.weave(|_| true).text, expected);
        let none = places.weave(|_| false).text;
        assert_eq!(none, "fn f(a: u8) -> bool { ({ !g(({ (a) > (1) })) }) }");
    }

    #[test]
    fn arms_and_fields_choose_as_well() {
        let source = "fn f(a: A) -> A { match a { A { x: 1, .. } => a, A { x, .. } if x > 7 => a, \
                      _ => A { x: 2, y: 3, ..a } } }";
        let mutants = [
            mutant(Genre::Arm, source, "A { x: 1, .. } => a", ""),
            mutant(Genre::Arm, source, "A { x, .. } if x > 7 => a", ""),
            mutant(Genre::Guard, source, "x > 7", "true"),
            mutant(Genre::Field, source, "y: 3,", ""),
        ];
        let places = Places::find(source, &mutants).unwrap();
        assert!(places.left().is_empty());
        let ask = "if crate::chosen_mutant";
        let expected = format!(
            "fn f(a: A) -> A {{ match a {{ A {{ x: 1, .. }} if !crate::chosen_mutant(0) => a, \
             A {{ x, .. }} if ({ask}(2) {{ true }} else {ask}(1) {{ false }} else {{ x > 7 }}) => a, \
             _ => ({ask}(3) {{ A {{ x: 2,  ..a }} }} else {{ A {{ x: 2, y: 3, ..a }} }}) }} }}"
        );
        assert_eq!(places.weave(|_| true).text, expected);
    }

    #[test]
    fn what_cannot_choose_at_run_time_is_left_for_a_text_of_its_own() {
        let source = "const C: u32 = 1 << 3; fn f() -> impl Iterator<Item = u8> { g() } \
                      fn h() { if a() && let Some(b) = c() {} }";
        let mutants = [
            mutant(Genre::BinaryOperator, source, "<<", ">>"),
            mutant(Genre::Body, source, "g()", "empty()"),
            mutant(Genre::BinaryOperator, source, "&&", "||"),
        ];
        let places = Places::find(source, &mutants).unwrap();
        assert_eq!(places.left(), [0, 1, 2]);
        assert_eq!(places.weave(|_| true).text, source);
        assert!(
            places
                .alone(0)
                .unwrap()
                .starts_with("const C: u32 = 1 >> 3;")
        );
    }

    #[test]
    fn an_error_is_of_the_innermost_mutant_around_it() {
        let source = "fn f() -> u8 { -(1 + 2) }";
        let mutants = [
            mutant(Genre::UnaryOperator, source, "-(", ""),
            mutant(Genre::BinaryOperator, source, "+", "*"),
        ];
        let woven = Places::find(source, &mutants).unwrap().weave(|_| true);
        let inner = woven.text.find('*').unwrap();
        assert_eq!(woven.mutant_at(inner), Some(1));
        assert_eq!(woven.mutant_at(inner - 20), Some(0));
        assert_eq!(woven.mutant_at(0), None);
    }
}
