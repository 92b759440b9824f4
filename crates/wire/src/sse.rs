//! Server-sent events, read as the standard says and written as Anthropic does.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>: lines end
//! with LF, CRLF or CR, a byte order mark may open the stream, comments and
//! unknown fields are skipped, several `data` lines are joined with LF, an event
//! without data is none, and one that the stream's end cuts off never happened.

use std::ops::Range;

/// One event: its name, if it has one, and its data.
#[derive(Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    pub name: Option<&'a str>,
    /// The `data` lines, joined. Bytes, since JSON is validated by who reads it.
    pub data: &'a [u8],
}

/// An event is larger than the decoder was told to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {limit} bytes")]
pub struct EventTooLong {
    /// In bytes.
    pub limit: usize,
}

/// Cuts a byte stream into events.
///
/// An event that lies whole within one frame is borrowed from it; only what a
/// frame leaves unfinished is copied.
#[derive(Debug)]
pub struct EventDecoder {
    limit: usize,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    data: Data,
    name: Vec<u8>,
    /// Data joined from several lines, or kept from an earlier frame.
    kept: Vec<u8>,
    after_cr: bool,
    started: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Data {
    None,
    /// Still in the frame that is being read.
    Frame(Range<usize>),
    Kept,
}

impl EventDecoder {
    /// Makes a decoder that refuses events of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Data::None,
            name: Vec::new(),
            kept: Vec::new(),
            after_cr: false,
            started: false,
        }
    }

    /// Reads one frame, cut wherever the network cut it. Pull [`Events::next`] until it is done.
    pub fn read<'a>(&'a mut self, frame: &'a [u8]) -> Events<'a> {
        Events { decoder: self, frame, at: 0, done: false }
    }

    /// True where something may be written into the stream without breaking an event.
    pub fn between_events(&self) -> bool {
        self.line.is_empty() && self.data == Data::None && self.name.is_empty()
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), EventTooLong> {
        if self.line.len() + self.kept.len() + bytes.len() > self.limit {
            return Err(EventTooLong { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes one whole line. True when it ends an event that has data.
    fn line(&mut self, frame: &[u8], line: Range<usize>) -> Result<bool, EventTooLong> {
        let held = std::mem::take(&mut self.line);
        let fresh = held.is_empty();
        let text: &[u8] = if fresh { &frame[line.clone()] } else { &held };
        let skipped = self.byte_order_mark(text);
        let text = &text[skipped..];
        if text.is_empty() {
            return Ok(self.blank());
        }
        let (field, value) = split(text);
        match field {
            b"data" => {
                let start = line.start + skipped + (text.len() - value.len());
                self.data_line(frame, value, fresh.then_some(start..line.end))?;
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
        if !fresh {
            self.line = held;
            self.line.clear();
        }
        Ok(false)
    }

    fn byte_order_mark(&mut self, line: &[u8]) -> usize {
        let first = !std::mem::replace(&mut self.started, true);
        if first && line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }
    }

    /// A blank line: the event is whole, if it has data.
    fn blank(&mut self) -> bool {
        if self.data == Data::None {
            self.name.clear();
        }
        self.data != Data::None
    }

    /// None → Frame or Kept: the first line. Anything → Kept: a further one.
    fn data_line(
        &mut self,
        frame: &[u8],
        value: &[u8],
        place: Option<Range<usize>>,
    ) -> Result<(), EventTooLong> {
        match (&self.data, place) {
            (Data::None, Some(place)) if place.len() > self.limit => {
                return Err(EventTooLong { limit: self.limit });
            }
            (Data::None, Some(place)) => {
                self.data = Data::Frame(place);
                return Ok(());
            }
            (Data::None, None) => self.kept.clear(),
            (Data::Frame(_), _) => {
                self.keep(frame);
                self.kept.push(b'\n');
            }
            (Data::Kept, _) => self.kept.push(b'\n'),
        }
        self.data = Data::Kept;
        if self.kept.len() + value.len() > self.limit {
            return Err(EventTooLong { limit: self.limit });
        }
        self.kept.extend_from_slice(value);
        Ok(())
    }

    /// Moves data out of a frame that is about to go.
    fn keep(&mut self, frame: &[u8]) {
        if let Data::Frame(place) = &self.data {
            self.kept.clear();
            self.kept.extend_from_slice(&frame[place.clone()]);
            self.data = Data::Kept;
        }
    }
}

/// The events that one frame completes.
#[derive(Debug)]
pub struct Events<'a> {
    decoder: &'a mut EventDecoder,
    frame: &'a [u8],
    at: usize,
    /// The event handed out last has to be cleared first.
    done: bool,
}

impl Events<'_> {
    /// Returns the next event, or `None` when the frame is used up.
    ///
    /// # Errors
    ///
    /// [`EventTooLong`] once an event outgrows the limit; the stream cannot be read further.
    #[expect(
        clippy::should_implement_trait,
        reason = "each event borrows from the decoder; no `Iterator` can lend"
    )]
    pub fn next(&mut self) -> Result<Option<SseEvent<'_>>, EventTooLong> {
        self.forget();
        if let Some((name, data, length)) = self.plain() {
            let (name, data) = (&self.frame[name], &self.frame[data]);
            self.at += length;
            return Ok(Some(SseEvent { name: std::str::from_utf8(name).ok(), data }));
        }
        while let Some(line) = self.next_line()? {
            if self.decoder.line(self.frame, line)? {
                self.done = true;
                return Ok(Some(self.event()));
            }
        }
        self.decoder.keep(self.frame);
        Ok(None)
    }

    /// What the next event's data says behind `head`, where the event begins with these bytes, which end in its data, and
    /// all of it is in this frame. Where not, nothing is taken: [`Self::next`] has it.
    pub fn next_like(&mut self, head: &[u8]) -> Option<&[u8]> {
        self.forget();
        let rest = self.frame[self.at..].strip_prefix(head).filter(|_| self.is_fresh())?;
        let length = memchr::memchr2(b'\n', b'\r', rest)?;
        if head.len() + length > self.decoder.limit || !rest[length..].starts_with(b"\n\n") {
            return None;
        }
        self.at += head.len() + length + 2;
        Some(&rest[..length])
    }

    /// True where nothing of the next event came before this frame.
    fn is_fresh(&self) -> bool {
        self.decoder.started && !self.decoder.after_cr && self.decoder.between_events()
    }

    /// An event as Anthropic writes it, where all of it is in this frame and nothing of it came before: where its name and
    /// its data stand, and its length.
    fn plain(&self) -> Option<(Range<usize>, Range<usize>, usize)> {
        let decoder = &*self.decoder;
        if !self.is_fresh() {
            return None;
        }
        let rest = &self.frame[self.at..];
        let name = rest.strip_prefix(b"event: ")?;
        let name_ends = memchr::memchr2(b'\n', b'\r', name).filter(|end| *end > 0)?;
        let data = name[name_ends..].strip_prefix(b"\ndata: ")?;
        let data_ends = memchr::memchr2(b'\n', b'\r', data)?;
        if data_ends > decoder.limit || !data[data_ends..].starts_with(b"\n\n") {
            return None;
        }
        let place = |part: &[u8], length: usize| {
            let start = self.frame.len() - part.len();
            start..start + length
        };
        let length = rest.len() - data.len() + data_ends + 2;
        Some((place(name, name_ends), place(data, data_ends), length))
    }

    fn forget(&mut self) {
        if std::mem::take(&mut self.done) {
            self.decoder.data = Data::None;
            self.decoder.name.clear();
        }
    }

    fn event(&self) -> SseEvent<'_> {
        let name = std::str::from_utf8(&self.decoder.name).ok().filter(|name| !name.is_empty());
        let data = match &self.decoder.data {
            Data::Frame(place) => &self.frame[place.clone()],
            Data::Kept => &self.decoder.kept,
            Data::None => &[],
        };
        SseEvent { name, data }
    }

    /// Finds the next whole line; what is left of the frame is held for the next one.
    fn next_line(&mut self) -> Result<Option<Range<usize>>, EventTooLong> {
        if self.decoder.after_cr && self.at < self.frame.len() {
            self.decoder.after_cr = false;
            self.at += usize::from(self.frame[self.at] == b'\n');
        }
        let rest = &self.frame[self.at..];
        let Some(found) = memchr::memchr2(b'\n', b'\r', rest) else {
            self.decoder.hold(rest)?;
            self.at = self.frame.len();
            return Ok(None);
        };
        let start = self.at;
        self.at += found + 1;
        self.decoder.after_cr = rest[found] == b'\r';
        if !self.decoder.line.is_empty() {
            self.decoder.hold(&rest[..found])?;
        }
        Ok(Some(start..start + found))
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        self.forget();
        self.decoder.keep(self.frame);
    }
}

/// Splits a line into field and value; a comment has an empty field.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, &[]),
    }
}

/// Writes one event. `data` must not hold a line break.
pub fn write_event(out: &mut Vec<u8>, name: &str, data: &str) {
    debug_assert!(!data.contains(['\n', '\r']), "data with a line break");
    for piece in ["event: ", name, "\ndata: ", data, "\n\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(source: &[u8], size: usize) -> Vec<(String, String)> {
        let mut decoder = EventDecoder::with_limit(1 << 16);
        let mut seen = Vec::new();
        for piece in source.chunks(size) {
            let mut events = decoder.read(piece);
            while let Some(event) = events.next().unwrap() {
                let data = String::from_utf8(event.data.to_vec()).unwrap();
                seen.push((event.name.unwrap_or_default().to_owned(), data));
            }
        }
        seen
    }

    /// Decodes `source` in pieces of every size; the events must not depend on it.
    #[track_caller]
    fn check(source: &str, expect: &[(&str, &str)]) {
        for size in 1..=source.len() {
            let seen = decode(source.as_bytes(), size);
            let seen: Vec<_> =
                seen.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(seen, expect, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn blank_lines_separate_events() {
        check("data: 1\n\nevent: ping\ndata: 2\n\n", &[("", "1"), ("ping", "2")]);
    }

    #[test]
    fn every_line_end_is_one() {
        check("data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n", &[("", "1"), ("", "2"), ("", "3")]);
        check("event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n", &[("a", "1"), ("b", "2")]);
    }

    #[test]
    fn only_one_space_is_taken() {
        check("data:1\n\ndata:  2\n\ndata\n\n", &[("", "1"), ("", " 2"), ("", "")]);
    }

    #[test]
    fn comments_and_unknown_fields_are_skipped() {
        check(": hi\nid: 7\nretry: 1\ndata: 1\n: mid\n\nnonsense\n\n", &[("", "1")]);
    }

    #[test]
    fn data_lines_are_joined() {
        check("data: {\ndata: \"a\":1}\nevent: late\n\n", &[("late", "{\n\"a\":1}")]);
    }

    #[test]
    fn an_event_without_data_is_none() {
        check("event: ping\n\ndata: 1\n\n", &[("", "1")]);
    }

    #[test]
    fn what_the_end_cuts_off_never_happened() {
        check("data: 1\n\ndata: 2\n", &[("", "1")]);
        check("data: 1\n\ndata: 2", &[("", "1")]);
    }

    #[test]
    fn a_byte_order_mark_opens_the_stream_only() {
        check("\u{feff}data: 1\n\n\u{feff}data: 2\n\n", &[("", "1")]);
    }

    #[test]
    fn utf8_may_be_cut_anywhere_and_other_line_ends_are_none() {
        check("data: ü🌊\u{2028}\u{85}\n\n", &[("", "ü🌊\u{2028}\u{85}")]);
    }

    #[test]
    fn an_event_over_the_limit_is_refused() {
        let mut decoder = EventDecoder::with_limit(8);
        let mut events = decoder.read(b"data: 0123456789");
        assert_eq!(events.next(), Err(EventTooLong { limit: 8 }));
    }

    #[test]
    fn it_knows_when_it_is_between_events() {
        let mut decoder = EventDecoder::with_limit(64);
        for (piece, between) in
            [("", true), ("da", false), ("ta: 1\n", false), ("\n", true), ("event: x\n", false)]
        {
            let mut events = decoder.read(piece.as_bytes());
            while events.next().unwrap().is_some() {}
            drop(events);
            assert_eq!(decoder.between_events(), between, "{piece:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn pieces_never_matter(source in "(data|event|:|\\r|\\n|x| |é){0,40}", size in 1usize..9) {
            let whole = decode(source.as_bytes(), source.len().max(1));
            proptest::prop_assert_eq!(whole, decode(source.as_bytes(), size));
        }
    }
}
