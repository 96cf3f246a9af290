//! A walk over a TOML document that collects every problem with its path and line. Pure.
//!
//! A [`Table`] hands out its keys one by one; what nobody asked for is reported as unknown, with the
//! nearest key that was asked for. So the walk itself is the schema. A value that cannot be read
//! is reported and its default taken: the walk goes on, and the finished result is thrown away.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use super::locations::{self, Locations};
use super::suggest::{self, one_of};

/// What the walk found out besides the values: problems, and where everything stands.
pub(super) struct Report {
    folder: PathBuf,
    credentials: Option<PathBuf>,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    locations: RefCell<Locations>,
    /// Every key asked for, indices left out (`route[].path`): tests compare it with the reference file.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<String>>,
}

/// A value and the path it stands at.
pub(super) struct Node<'r, 'i> {
    report: &'r Report,
    path: String,
    value: DeValue<'i>,
}

/// A table whose keys are taken out one by one.
pub(super) struct Table<'r, 'i> {
    report: &'r Report,
    path: String,
    entries: Vec<(String, Spanned<DeValue<'i>>)>,
    asked: Vec<&'static str>,
}

impl Report {
    pub(super) fn new(text: &str, folder: &Path, credentials: Option<&Path>) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            folder: folder.to_owned(),
            credentials: credentials.map(Path::to_owned),
            line_starts: std::iter::once(0)
                .chain(ends.map(|(at, _)| at.saturating_add(1)))
                .collect(),
            problems: RefCell::default(),
            locations: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The 1-based line of a byte offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Records a problem at a path, with the line of that path or its nearest parent.
    pub(super) fn problem(&self, path: impl Into<String>, message: impl Display) {
        let problem = self.locations.borrow().problem(path, message.to_string());
        self.problems.borrow_mut().push(problem);
    }

    /// The root of the document.
    pub(super) fn root<'r, 'i>(&'r self, document: DeTable<'i>) -> Table<'r, 'i> {
        Table::new(self, String::new(), document)
    }

    /// All problems in the order of the file (those without a line last), and all locations.
    pub(super) fn finish(self) -> (Vec<Problem>, Locations) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        (problems, self.locations.into_inner())
    }

    fn locate(&self, path: &str, offset: usize) {
        self.locations.borrow_mut().insert(path.to_owned(), self.line(offset));
    }
}

impl<'r, 'i> Table<'r, 'i> {
    fn new(report: &'r Report, path: String, table: DeTable<'i>) -> Self {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries
            .into_iter()
            .map(|(key, value)| {
                report.locate(&locations::child(&path, key.get_ref()), key.span().start);
                (key.into_inner().into_owned(), value)
            })
            .collect();
        Self { report, path, entries, asked: Vec::new() }
    }

    /// Whether `key` is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }

    /// The value of `key`, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node<'r, 'i>> {
        self.asked.push(key);
        #[cfg(test)]
        self.note(key);
        let at = self.entries.iter().position(|(name, _)| name == key)?;
        let (_, value) = self.entries.remove(at);
        Some(Node { report: self.report, path: self.at(key), value: value.into_inner() })
    }

    /// The value of `key`; a problem if it is not there.
    pub(super) fn required(&mut self, key: &'static str, hint: &str) -> Option<Node<'r, 'i>> {
        let node = self.take(key);
        if node.is_none() {
            self.problem(key, format_args!("is missing: {hint}"));
        }
        node
    }

    /// Reads the table at `key`; an absent one as if it were there and empty, so that defaults are
    /// written in one place.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let table = match self.take(key) {
            Some(Node { value: DeValue::Table(table), .. }) => table,
            Some(other) => {
                other.wrong_type("a table");
                DeTable::default()
            }
            None => DeTable::default(),
        };
        Self::new(self.report, self.at(key), table).read(read)
    }

    /// Reads the table at `key`, if it is there.
    pub(super) fn optional_section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        self.take(key)?.table(read)
    }

    /// What is left, as names the operator chose, in the order of the file.
    pub(super) fn named(&mut self) -> Vec<(String, Node<'r, 'i>)> {
        let (report, path) = (self.report, self.path.clone());
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(name, value)| {
                let path = locations::child(&path, &name);
                (name, Node { report, path, value: value.into_inner() })
            })
            .collect()
    }

    /// Reports `keys` that are left with this message, better than that they are unknown.
    pub(super) fn reject(&mut self, keys: &[&str], message: impl Display) {
        let is_rejected = |entry: &(String, _)| keys.contains(&entry.0.as_str());
        for (name, _) in self.entries.iter().filter(|entry| is_rejected(entry)) {
            self.problem(name, &message);
        }
        self.entries.retain(|entry| !is_rejected(entry));
    }

    /// Records a problem at one of the table's keys.
    pub(super) fn problem(&self, key: &str, message: impl Display) {
        self.report.problem(self.at(key), message);
    }

    /// Records a problem anywhere in the file.
    pub(super) fn report(&self, path: String, message: impl Display) {
        self.report.problem(path, message);
    }

    /// Whether the setting at this path stands in what was read of the file so far.
    pub(super) fn was_typed(&self, path: &str) -> bool {
        self.report.locations.borrow().contains(path)
    }

    /// The path of one of the table's keys.
    pub(super) fn at(&self, key: &str) -> String {
        locations::child(&self.path, key)
    }

    /// Lets `read` take out what it knows and reports what is left.
    pub(super) fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let result = read(&mut self);
        for (name, _) in &self.entries {
            let near = suggest::nearest(name, self.asked.iter().copied());
            self.problem(name, format_args!("unknown key{}", suggest::did_you_mean(near)));
        }
        result
    }

    #[cfg(test)]
    fn note(&self, key: &str) {
        let path: Vec<String> = self
            .at(key)
            .split('[')
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned())
            .collect();
        self.report.asked.borrow_mut().insert(path.join("["));
    }
}

impl<'r, 'i> Node<'r, 'i> {
    /// Records a problem with this value.
    pub(super) fn problem(&self, message: impl Display) {
        self.report.problem(self.path.clone(), message);
    }

    /// Where the value stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value itself.
    pub(super) fn value(&self) -> &DeValue<'i> {
        &self.value
    }

    /// Records that the value is of another type than `expected`.
    pub(super) fn wrong_type(&self, expected: &str) {
        self.problem(format_args!("must be {expected}, not {}", type_of(&self.value)));
    }

    /// A string.
    pub(super) fn text(&self) -> Option<&str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type("a string");
        }
        text
    }

    /// A string that is not empty.
    pub(super) fn word(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            self.problem("must not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    /// A string in a form of its own.
    pub(super) fn parse<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.text()?).map_err(|error| self.problem(error)).ok()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let Some(text) = self.value.as_str() else {
            self.wrong_type(&one_of(words()));
            return None;
        };
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let near = suggest::did_you_mean(suggest::nearest(text, words()));
            self.problem(format_args!("must be {}{near}", one_of(words())));
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number that fits into 64 bits with sign, as TOML has them.
    pub(super) fn integer(&self) -> Option<i64> {
        let Some(integer) = self.value.as_integer() else {
            self.wrong_type("a whole number");
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if number.is_none() {
            self.problem("is too large a number");
        }
        number
    }

    /// A file; relative to the configuration's folder, or `credential:NAME`.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.file_called(&self.word()?)
    }

    /// The same, where the name is only a part of the value.
    pub(super) fn file_called(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() {
            self.problem("must name a file");
            return None;
        }
        if name.contains(['\n', '\0']) {
            // Perhaps the key itself: it must not be repeated in a message.
            self.problem("must be the name of a file, not its content");
            return None;
        }
        match name.strip_prefix(CREDENTIAL) {
            Some(name) => self.credential(name),
            None => Some(self.in_folder(name)),
        }
    }

    /// A secret that systemd keeps for the service.
    fn credential(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            self.problem("must name a credential as LoadCredential= does: credential:NAME");
            return None;
        }
        let Some(folder) = &self.report.credentials else {
            self.problem(
                "credentials are there for a service with LoadCredential= only; elsewhere set \
                 CREDENTIALS_DIRECTORY to a folder that has them",
            );
            return None;
        };
        Some(folder.join(name))
    }

    /// A relative path, taken from the configuration's folder.
    pub(super) fn in_folder(&self, path: impl AsRef<Path>) -> PathBuf {
        self.report.folder.join(path)
    }

    /// The elements of an array; `None` if the value is none.
    pub(super) fn items(self, expected: &str) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type(expected);
            return None;
        };
        let (report, parent) = (self.report, self.path);
        let node = |(index, value): (usize, Spanned<DeValue<'i>>)| {
            let path = format!("{parent}[{index}]");
            report.locate(&path, value.span().start);
            Self { report, path, value: value.into_inner() }
        };
        Some(items.into_iter().enumerate().map(node).collect())
    }

    /// Reads a table; `None` if the value is none.
    pub(super) fn table<T>(self, read: impl FnOnce(&mut Table<'r, 'i>) -> T) -> Option<T> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type("a table");
            return None;
        };
        Some(Table::new(self.report, self.path, table).read(read))
    }
}

/// What stands before the name of a credential.
const CREDENTIAL: &str = "credential:";

/// The type of a value as people call it. The value itself might be a secret in the wrong place.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
