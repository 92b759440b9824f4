//! Request bodies that come compressed: read in full, and no further than a body may be.

use std::io::Read;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::fault::{Fault, FaultKind};
use crate::memory::{self, Held, Memory};

/// So much is decoded before it is counted, in bytes.
const STEP: u64 = 256 << 10;
/// What is decoded where it is; more would hold up what else the thread serves.
const SMALL: usize = 64 << 10;

/// An encoding that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    /// The name that the registry of content codings has for it.
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// The encodings of a body, the last applied first.
fn encodings(headers: &HeaderMap) -> Result<Vec<Encoding>, Fault> {
    let values =
        headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let names =
        values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let mut found = Vec::new();
    for name in names.filter(|name| !name.is_empty() && name != "identity") {
        found.push(match name.as_str() {
            "gzip" | "x-gzip" => Encoding::Gzip,
            "deflate" => Encoding::Deflate,
            "zstd" => Encoding::Zstd,
            other => return Err(Fault::new(FaultKind::InvalidRequest, format!("the body is encoded as `{other}`; send it plain, or as `gzip`, `deflate` or `zstd`"))),
        });
    }
    found.reverse();
    Ok(found)
}

/// Returns a body as it was before it was compressed; `held` is the memory that it takes.
///
/// # Errors
///
/// [`FaultKind::TooLarge`] past `limit` bytes, [`FaultKind::InvalidRequest`] for what cannot be decoded,
/// [`FaultKind::NoMemory`] if there is no memory for it.
pub(super) async fn plain(
    memory: &Memory,
    held: &mut Held,
    headers: &HeaderMap,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, Fault> {
    let encodings = encodings(headers)?;
    if encodings.is_empty() {
        return Ok(body);
    }
    if body.len() <= SMALL && limit <= SMALL {
        return decoded(memory, held, &encodings, body, limit);
    }
    let (memory, mut taken) = (memory.clone(), std::mem::take(held));
    let work = tokio::task::spawn_blocking(move || {
        let plain = decoded(&memory, &mut taken, &encodings, body, limit);
        (plain, taken)
    });
    let Ok((plain, taken)) = work.await else {
        return Err(Fault::new(FaultKind::Internal, "the body could not be decoded"));
    };
    *held = taken;
    plain
}

fn decoded(
    memory: &Memory,
    held: &mut Held,
    encodings: &[Encoding],
    body: Bytes,
    limit: usize,
) -> Result<Bytes, Fault> {
    encodings.iter().try_fold(body, |body, encoding| {
        let broken = |error: std::io::Error| {
            Fault::new(FaultKind::InvalidRequest, format!("the body cannot be decoded as `{}`, which its `content-encoding` names", encoding.name())).because(error)
        };
        let mut reader: Box<dyn Read + '_> = match encoding {
            Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&*body)),
            Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(&*body)),
            Encoding::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new(&*body)
                    .map_err(std::io::Error::other)
                    .map_err(broken)?,
            ),
        };
        let mut out = Vec::new();
        // Some at a time: what is small may become large.
        while reader.by_ref().take(STEP).read_to_end(&mut out).map_err(broken)? > 0 {
            if out.len() > limit {
                return Err(Fault::new(FaultKind::TooLarge, format!("the body is larger than {limit} bytes once it is decoded; raise `body_limit` if that is meant")));
            }
            if !memory.try_hold(held, out.len()) {
                return Err(memory::fault());
            }
        }
        Ok(Bytes::from(out))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zstd(text: &[u8]) -> Bytes {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest).into()
    }

    async fn check(encoding: &'static str, body: Bytes, limit: usize) -> Result<Bytes, FaultKind> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
        let (memory, mut held) = (Memory::new(2 << 20), Held::default());
        let plain = plain(&memory, &mut held, &headers, body, limit).await;
        drop(held);
        assert_eq!(memory.left(), 2 << 20, "all of it is given back");
        plain.map_err(|fault| fault.kind)
    }

    #[tokio::test]
    async fn what_was_compressed_is_read() {
        let text = b"{}".repeat(50_000);
        for limit in [text.len(), 1 << 20] {
            assert_eq!(check("gzip", gzip(&text), limit).await.unwrap(), text);
            assert_eq!(check("zstd", zstd(&text), limit).await.unwrap(), text);
            assert_eq!(check("GZIP, zstd", zstd(&gzip(&text)), limit).await.unwrap(), text);
        }
        assert_eq!(check("identity", Bytes::from_static(b"x"), 9).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn a_bomb_is_too_large_and_rubbish_is_told() {
        let bomb = gzip(&vec![b'x'; 1 << 20]);
        assert!(bomb.len() < 9000);
        assert_eq!(check("gzip", bomb, 1000).await, Err(FaultKind::TooLarge));
        assert_eq!(check("zstd", zstd(&vec![b'x'; 1 << 20]), 1000).await, Err(FaultKind::TooLarge));
        let large = gzip(&vec![b'x'; 4 << 20]);
        assert_eq!(check("gzip", large, 8 << 20).await, Err(FaultKind::NoMemory));
        for encoding in ["gzip", "zstd", "deflate"] {
            assert_eq!(
                check(encoding, Bytes::from_static(b"rubbish"), 1000).await,
                Err(FaultKind::InvalidRequest),
                "{encoding}"
            );
        }
        assert_eq!(
            check("gzip", gzip(b"cut off").slice(..12), 1000).await,
            Err(FaultKind::InvalidRequest)
        );
        assert_eq!(check("br", Bytes::new(), 1000).await, Err(FaultKind::InvalidRequest));
    }
}
