//! Walking through text while counting lines and columns.

use super::{SyntaxError, SyntaxErrorKind};

/// A place in the text. Copies are cheap and go on independently.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor {
            rest: text,
            line: 1,
            column: 1,
        }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The character here; CRLF shows as LF.
    pub(super) fn peek(&self) -> Option<char> {
        match self.rest.chars().next()? {
            '\r' if self.rest.starts_with("\r\n") => Some('\n'),
            c => Some(c),
        }
    }

    /// Takes the character here; CRLF is taken whole, as LF.
    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        let taken = if self.rest.starts_with("\r\n") {
            2
        } else {
            c.len_utf8()
        };
        self.rest = self.rest.get(taken..).unwrap_or_default();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    /// Takes `expected` if it is here.
    pub(super) fn eat(&mut self, expected: &str) -> bool {
        let here = self.rest.starts_with(expected);
        if here {
            for _ in expected.chars() {
                self.next();
            }
        }
        here
    }

    /// Takes characters while they are wanted.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.rest;
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
        let taken = start.len() - self.rest.len();
        start.get(..taken).unwrap_or_default()
    }

    /// Takes blanks: spaces and tabulators.
    pub(super) fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    /// Takes everything up to the end of the line, which stays.
    pub(super) fn skip_line(&mut self) {
        self.take_while(|c| c != '\n');
    }

    pub(super) fn at_line_end(&self) -> bool {
        matches!(self.peek(), None | Some('\n'))
    }

    /// An error at this place.
    pub(super) fn error(&self, kind: SyntaxErrorKind) -> SyntaxError {
        SyntaxError {
            line: self.line,
            column: self.column,
            kind,
        }
    }
}

pub(super) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}
