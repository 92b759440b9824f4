//! As much of HTTP/1.1 as both ends of a run need: heads, lengths and chunks, read byte by byte.

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// More has to come.
    Open,
    /// It ended as HTTP says it ends.
    Whole,
    /// What came is none.
    Wrong,
}

/// A message that is being read.
#[derive(Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
    pub head: Option<String>,
    pub body: Vec<u8>,
    /// Bytes of the body that are missing; none where chunks say it.
    left: Option<usize>,
    chunked: bool,
    over: bool,
    wrong: bool,
}

impl Reader {
    /// Takes bytes. What belongs to the next message stays in here.
    pub fn push(&mut self, bytes: &[u8]) -> Stand {
        self.held.extend_from_slice(bytes);
        self.stand()
    }

    /// Goes on to the next message.
    pub fn go_on(&mut self) -> Stand {
        *self = Self { held: std::mem::take(&mut self.held), ..Self::default() };
        self.stand()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.as_deref()?.split("\r\n").skip(1);
        let mut found = lines.filter_map(|line| line.split_once(':'));
        found.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.head.as_deref()?.split(' ').nth(1)?.parse().ok()
    }

    fn stand(&mut self) -> Stand {
        if self.head.is_none() {
            let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") else {
                return Stand::Open;
            };
            let head = self.held.drain(..end + 4).collect();
            let Ok(head) = String::from_utf8(head) else { return Stand::Wrong };
            self.head = Some(head);
            self.chunked = self.header("transfer-encoding").is_some();
            self.left = self.header("content-length").and_then(|length| length.parse().ok());
            // A request without either has no body, and our answers always have one of them.
            self.over = !self.chunked && self.left.is_none_or(|left| left == 0);
        }
        while !self.over && !self.wrong && self.step() {}
        match (self.over, self.wrong) {
            (_, true) => Stand::Wrong,
            (true, _) => Stand::Whole,
            _ => Stand::Open,
        }
    }

    /// Takes what is there; false if more is needed.
    fn step(&mut self) -> bool {
        if !self.chunked {
            let left = self.left.unwrap_or_default();
            let taken = left.min(self.held.len());
            self.body.extend(self.held.drain(..taken));
            self.left = Some(left - taken);
            self.over = left == taken;
            return taken > 0 && !self.over;
        }
        let Some(end) = self.held.windows(2).position(|window| window == b"\r\n") else {
            return false;
        };
        let size = std::str::from_utf8(&self.held[..end]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            self.wrong = true;
            return false;
        };
        if self.held.len() < end + 2 + size + 2 {
            return false;
        }
        self.body.extend_from_slice(&self.held[end + 2..end + 2 + size]);
        self.held.drain(..end + 2 + size + 2);
        self.over = size == 0;
        !self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_however_it_is_cut() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nxyHT";
        for size in 1..text.len() {
            let (mut reader, mut seen) = (Reader::default(), Vec::new());
            for piece in text.chunks(size) {
                let mut stand = reader.push(piece);
                while stand == Stand::Whole {
                    seen.push((reader.status().unwrap_or_default(), reader.body.clone()));
                    stand = reader.go_on();
                }
            }
            assert_eq!(
                seen,
                [(200, b"abc".to_vec()), (404, b"xy".to_vec())],
                "in pieces of {size}"
            );
        }
    }
}
