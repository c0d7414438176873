//! Reads a TOML table key by key, noting every problem with its place instead of stopping at the first.
//!
//! A [`Table`] remembers which keys were asked for; what is left at [`Table::finish`] is unknown and refused. So the list of known keys
//! is the code that reads them, and exists once.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Place, Placed, Problem, did_you_mean};

/// One configuration file being read.
pub(super) struct Reader<'a> {
    file: Arc<PathBuf>,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: PathBuf, text: &'a str) -> Self {
        Reader { file: Arc::new(file), text, problems: RefCell::default() }
    }

    /// Reads the file's top table with `read`, which is given what could be read; then every problem in the order of places.
    ///
    /// A file that is no TOML is read as an empty table, with the syntax errors as its only problems.
    pub(super) fn read<T>(self, read: impl FnOnce(&mut Table<'_>) -> T) -> (T, Vec<Problem>) {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        let empty = DeTable::new();
        let entries = if errors.is_empty() { root.get_ref() } else { &empty };
        let mut table = Table {
            reader: &self,
            path: String::new(),
            place: self.place(0),
            entries,
            asked: RefCell::default(),
            finished: Cell::new(false),
        };
        let value = read(&mut table);
        table.finish();
        drop(table);
        if !errors.is_empty() {
            self.problems.borrow_mut().clear(); // what is missing is missing because nothing was read
            for error in errors {
                self.note(self.place(error.span().map_or(0, |span| span.start)), error.message().to_owned(), None);
            }
        }
        let mut problems = self.problems.into_inner();
        problems.sort();
        (value, problems)
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
        }
    }

    fn note(&self, place: Place, message: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem { place, message, help });
    }
}

/// One table of the file, and the keys that were asked of it.
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    path: String,
    place: Place,
    entries: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
    finished: Cell<bool>,
}

impl<'a> Table<'a> {
    /// Where the table begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Notes a problem with the table as a whole.
    pub(super) fn refuse(&self, message: impl Display, help: impl Into<String>) {
        self.reader.note(self.place.clone(), format!("{}{message}", self.prefix()), Some(help.into()));
    }

    /// Notes a problem with a value of this table.
    pub(super) fn refuse_at(&self, place: &Place, key: &str, message: impl Display, help: impl Into<String>) {
        self.reader.note(place.clone(), format!("{}{message}", self.label(key)), Some(help.into()));
    }

    /// Notes a problem with a value, wherever it stands.
    pub(super) fn refuse_value(&self, place: &Place, message: impl Display, help: impl Into<String>) {
        self.reader.note(place.clone(), message.to_string(), Some(help.into()));
    }

    /// A text, if it is there.
    pub(super) fn text(&self, key: &'static str) -> Option<Placed<String>> {
        let (value, place) = self.value(key)?;
        self.expect_text(key, value, &place).map(|value| Placed { value, place })
    }

    /// A single value as text; a number is taken as it is written.
    pub(super) fn scalar(&self, key: &'static str) -> Option<Placed<String>> {
        let (value, place) = self.value(key)?;
        let text = scalar(value);
        if text.is_none() {
            self.refuse_at(&place, key, format_args!(": {} is not a single value", describe(value)), "write it as a text");
        }
        text.map(|value| Placed { value, place })
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, key: &'static str, example: &str) -> Option<Placed<String>> {
        self.require(key, example);
        self.text(key)
    }

    /// A text that `parse` turns into a value; its error becomes a problem.
    pub(super) fn parsed<T, E: Display>(&self, key: &'static str, help: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Placed<T>> {
        let text = self.text(key)?;
        match parse(&text.value) {
            Ok(value) => Some(Placed { value, place: text.place }),
            Err(error) => {
                self.refuse_at(&text.place, key, format_args!(" = \"{}\": {error}", text.value), help);
                None
            }
        }
    }

    /// One of a list of words.
    pub(super) fn choice<T: Clone>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<Placed<T>> {
        let text = self.text(key)?;
        match words.iter().find(|(word, _)| *word == text.value) {
            Some((_, value)) => Some(Placed { value: value.clone(), place: text.place }),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.refuse_at(&text.place, key, format_args!(" = \"{}\" is not known", text.value), did_you_mean(&text.value, &known));
                None
            }
        }
    }

    /// A whole number within `range`, or `default`.
    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let Some((value, place)) = self.value(key) else { return default };
        let number = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        match number {
            Some(number) if range.contains(&number) => number,
            _ => {
                let help = format!("a whole number from {} to {}; default {default}", range.start(), range.end());
                self.refuse_at(&place, key, format_args!(": {} does not fit", describe(value)), help);
                default
            }
        }
    }

    /// A number within `range`, if it is there and is one.
    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let (value, place) = self.value(key)?;
        let number = match value {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            let help = format!("a number from {} to {}", range.start(), range.end());
            self.refuse_at(&place, key, format_args!(": {} does not fit", describe(value)), help);
        }
        fits
    }

    /// A length of time like "2m", "500ms" or "1h 30m", within `range`, if it is there and is one.
    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (value, place) = self.value(key)?;
        let length = value.as_str().and_then(|text| humantime::parse_duration(text).ok()).filter(|length| range.contains(length));
        if length.is_none() {
            let (least, most) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
            let help = format!("a text like \"500ms\", \"30s\" or \"2m\", from {least} to {most}");
            self.refuse_at(&place, key, format_args!(": {} is no length of time", describe(value)), help);
        }
        length
    }

    /// Whether a key's value is a table of its own rather than a single value.
    pub(super) fn is_table(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|(value, _)| value.as_table().is_some())
    }

    /// Whether a key's value is a text.
    pub(super) fn text_is(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|(value, _)| value.as_str().is_some())
    }

    /// `true` or `false`, if it is there.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let (value, place) = self.value(key)?;
        let known = value.as_bool();
        if known.is_none() {
            self.refuse_at(&place, key, format_args!(": {} does not fit", describe(value)), "true or false, without quotes");
        }
        known
    }

    /// Where a key's value is written.
    pub(super) fn place_of(&self, key: &'static str) -> Option<Place> {
        self.value(key).map(|(_, place)| place)
    }

    /// A list of texts; a single text counts as a list of one.
    pub(super) fn texts(&self, key: &'static str) -> Vec<Placed<String>> {
        let Some((value, place)) = self.value(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            return self.expect_text(key, value, &place).map(|value| Placed { value, place }).into_iter().collect();
        };
        let items = array.iter().map(|item| (item.get_ref(), self.reader.place(item.span().start)));
        items.filter_map(|(item, place)| self.expect_text(key, item, &place).map(|value| Placed { value, place })).collect()
    }

    /// A table of texts (numbers and booleans are taken as written), for keys that this program does not know: guests' settings,
    /// librdkafka's properties.
    pub(super) fn free_texts(&self, key: &'static str) -> Vec<(String, Placed<String>)> {
        let Some((value, place)) = self.value(key) else { return Vec::new() };
        let Some(entries) = value.as_table() else {
            self.refuse_at(&place, key, format_args!(": {} is not a table", describe(value)), "write { name = \"value\" }");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in entries {
            let place = self.reader.place(value.span().start);
            match scalar(value.get_ref()) {
                Some(text) => pairs.push((name.get_ref().to_string(), Placed { value: text, place })),
                None => self.refuse_at(
                    &place,
                    key,
                    format_args!(".{}: {} is not a single value", name.get_ref(), describe(value.get_ref())),
                    "write it as a text",
                ),
            }
        }
        pairs
    }

    /// Reads a table of its own, if it is there.
    pub(super) fn table<T>(&self, key: &'static str, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let (value, place) = self.value(key)?;
        let Some(entries) = value.as_table() else {
            self.refuse_at(&place, key, format_args!(": {} is not a table", describe(value)), format!("write [{key}]"));
            return None;
        };
        Some(self.child(self.label(key), place, entries, read))
    }

    /// Reads each table of a list (`[[key]]`); what `read` gives up on is left out.
    pub(super) fn tables<T>(&self, key: &'static str, read: impl Fn(&mut Table<'a>) -> Option<T>) -> Vec<T> {
        let Some((value, place)) = self.value(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.refuse_at(&place, key, format_args!(": {} is not a list of tables", describe(value)), format!("write [[{key}]]"));
            return Vec::new();
        };
        let mut all = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let place = self.reader.place(item.span().start);
            match item.get_ref().as_table() {
                Some(entries) => all.extend(self.child(format!("{}[{index}]", self.label(key)), place, entries, &read)),
                None => self.refuse_at(&place, key, format_args!("[{index}] is not a table"), format!("write [[{key}]]")),
            }
        }
        all
    }

    /// Where a value is written, if it is.
    pub(super) fn placed(&self, key: &'static str) -> Option<Place> {
        self.value(key).map(|(_, place)| place)
    }

    /// Where a list is written that has nothing in it.
    pub(super) fn empty_list(&self, key: &'static str) -> Option<Place> {
        let (value, place) = self.value(key)?;
        value.as_array().filter(|list| list.is_empty()).map(|_| place)
    }

    /// Refuses every key that nobody asked for.
    fn finish(&self) {
        if self.finished.replace(true) {
            return;
        }
        let asked = self.asked.borrow();
        for key in self.entries.keys().filter(|key| !asked.contains(&key.get_ref().as_ref())) {
            let place = self.reader.place(key.span().start);
            self.reader.note(place, format!("unknown key `{}`", self.label(key.get_ref())), Some(did_you_mean(key.get_ref(), &asked)));
        }
    }

    fn child<T>(&self, path: String, place: Place, entries: &'a DeTable<'a>, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let mut child = Table { reader: self.reader, path, place, entries, asked: RefCell::default(), finished: Cell::new(false) };
        let value = read(&mut child);
        child.finish();
        value
    }

    fn value(&self, key: &'static str) -> Option<(&'a DeValue<'a>, Place)> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let value: &Spanned<DeValue<'a>> = self.entries.get(key)?;
        Some((value.get_ref(), self.reader.place(value.span().start)))
    }

    /// Notes a problem when `key` is not there.
    pub(super) fn require(&self, key: &'static str, example: &str) {
        if self.value(key).is_none() {
            self.refuse(format_args!("`{key}` is missing"), format!("write {key} = {example}"));
        }
    }

    fn expect_text(&self, key: &str, value: &DeValue<'_>, place: &Place) -> Option<String> {
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.refuse_at(place, key, format_args!(": {} is not a text", describe(value)), "put it in quotes");
        }
        text
    }

    fn label(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn prefix(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match (value, scalar(value)) {
        (DeValue::String(text), _) => format!("\"{text}\""),
        (_, Some(text)) => text,
        _ => format!("this {}", value.type_str()),
    }
}
