//! A line of the log as `tracing-subscriber` writes it, without what that takes for each field: for what is logged of
//! every request.

use std::fmt::Write;
use std::sync::OnceLock;

use jiff::Timestamp;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// Without colours.
    Text,
    Json,
}

/// How the lines of this process are written, which go to [`super::writer`].
static FORM: OnceLock<LogForm> = OnceLock::new();

/// Says so, once.
pub fn write_lines_as(form: LogForm) {
    let _first = FORM.set(form);
}

/// `None` where lines are written in another form, or go elsewhere.
pub fn form() -> Option<LogForm> {
    FORM.get().copied()
}

/// A line of the level `INFO`.
#[derive(Debug)]
pub struct LogLine {
    form: LogForm,
    text: String,
}

impl LogLine {
    /// Begins one; its message is one of ours, without anything to escape.
    pub fn begin(form: LogForm, now: Timestamp, message: &str) -> Self {
        let mut text = String::with_capacity(512);
        let _infallible = match form {
            LogForm::Text => write!(text, "{now:.6}  INFO {message}"),
            LogForm::Json => {
                write!(text, r#"{{"timestamp":"{now:.6}","level":"INFO","message":"{message}""#)
            }
        };
        Self { form, text }
    }

    fn name(&mut self, name: &str) {
        match self.form {
            LogForm::Text => {
                self.text.push(' ');
                self.text.push_str(name);
                self.text.push('=');
            }
            LogForm::Json => {
                self.text.push_str(",\"");
                self.text.push_str(name);
                self.text.push_str("\":");
            }
        }
    }

    /// Adds a text, quoted.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        // A single quote is escaped in neither.
        if value.bytes().all(is_plain) {
            self.text.push('"');
            self.text.push_str(value);
            self.text.push('"');
            return;
        }
        let _infallible = match self.form {
            LogForm::Text => write!(self.text, "{value:?}"),
            LogForm::Json => {
                let quoted = serde_json::to_string(value).unwrap_or_default();
                write!(self.text, "{quoted}")
            }
        };
    }

    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _infallible = write!(self.text, "{value}");
    }

    /// Adds a number, without an exponent where it is a sum of money or a time.
    pub fn float(&mut self, name: &str, value: f64) {
        self.name(name);
        self.text.push_str(zmij::Buffer::new().format(value));
    }

    /// Ends it, and hands it to who writes.
    pub fn write(self) {
        super::writer().push(self.end().as_bytes());
    }

    /// Ends it.
    pub fn end(mut self) -> String {
        self.text.push_str(match self.form {
            LogForm::Text => "\n",
            LogForm::Json => "}\n",
        });
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for (value, expect) in [
            (0.0, "0.0"),
            (0.531, "0.531"),
            (1000.0, "1000.0"),
            (0.000_024, "0.000024"),
            (123_456_789.125, "123456789.125"),
            (2.0 / 3.0, "0.6666666666666666"),
        ] {
            let mut line = LogLine::begin(LogForm::Text, Timestamp::UNIX_EPOCH, "x");
            line.float("a", value);
            line.number("b", 12);
            assert!(line.end().ends_with(&format!(" a={expect} b=12\n")), "{value}");
        }
    }
}
