//! Images and files: from URLs and data URLs to blocks with a source.
//!
//! What data is, its first bytes tell; a label is believed where they say nothing. The API refuses
//! a picture whose label is not true.

use std::fmt::Display;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::json::{Node, Patch, quote};
use crate::read::{member, unsupported, wrong};
use crate::{Fault, FaultKind};

/// Image types that Claude sees.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";
/// How ids of Anthropic's Files API begin; OpenAI's begin with `file-`.
const FILE_ID: &str = "file_";
/// What requests with such ids have to announce.
pub(crate) const FILES_BETA: &str = "files-api-2025-04-14";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A `data:` URL: <https://www.rfc-editor.org/rfc/rfc2397>.
struct DataUrl<'u> {
    /// In lower case, without parameters.
    media_type: String,
    base64: bool,
    data: &'u str,
}

impl<'u> DataUrl<'u> {
    fn parse(url: &'u str) -> Option<Self> {
        let scheme = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:"))?;
        let (head, data) = url[scheme.len()..].split_once(',')?;
        let mut head = head.split(';');
        let media_type = head.next().unwrap_or_default().trim().to_ascii_lowercase();
        let base64 = head.any(|parameter| parameter.trim().eq_ignore_ascii_case("base64"));
        let media_type =
            if media_type == "image/jpg" { "image/jpeg".to_owned() } else { media_type };
        Some(Self { media_type, base64, data: data.trim() })
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        decoded(self.data).filter(|_| self.base64)
    }
}

/// Decodes what is base64 and holds something.
fn decoded(data: &str) -> Option<Vec<u8>> {
    BASE64.decode(data).ok().filter(|bytes| !bytes.is_empty())
}

/// What data is, if its first bytes tell.
fn told(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some(PDF),
        _ => None,
    }
}

/// The same of base64, of which the beginning is enough.
fn told_by_base64(data: &str) -> Option<&'static str> {
    told(&decoded(data.get(..16)?)?)
}

/// Writes the block for an image.
pub(crate) fn image(url: &str, path: impl Display) -> Result<String, Fault> {
    if is_web(url) {
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        let url = format!("{}:{rest}", scheme.to_ascii_lowercase());
        return Ok(format!(
            "{{\"type\":\"image\",\"source\":{{\"type\":\"url\",\"url\":{}}}}}",
            quote(&url)
        ));
    }
    let Some(data) = DataUrl::parse(url) else {
        return Err(
            wrong(path, "expected an `https:`, `http:` or `data:` URL").code("invalid_image_url")
        );
    };
    let bytes = data.bytes();
    let kind = bytes.as_deref().and_then(told).unwrap_or(&data.media_type);
    if kind != PDF && !IMAGES.contains(&kind) {
        let why = format!(
            "images of type `{kind}` are not supported; Claude takes {}",
            IMAGES.join(", ")
        );
        return Err(wrong(path, why).code("unsupported_image_media_type"));
    }
    if bytes.is_none() {
        return Err(wrong(path, "the data is not valid base64").code("invalid_base64_image"));
    }
    Ok(base64_block(if kind == PDF { "document" } else { "image" }, kind, data.data, None))
}

/// An image or a document as Messages has it, with a label that is true.
pub(crate) fn native(node: &Node<'_>) -> String {
    relabelled(node.raw()).unwrap_or_else(|| node.raw().to_owned())
}

fn relabelled(raw: &str) -> Option<String> {
    let root = Node::whole(raw)?;
    let block = root.as_object()?;
    let source = member(&block, "source")?.as_object()?;
    let (data, label, kind) =
        (member(&source, "data")?, member(&source, "media_type")?, member(&block, "type")?);
    let told = told_by_base64(&data.as_str()?).filter(|told| {
        member(&source, "type").is_some_and(|kind| kind.raw() == "\"base64\"")
            && label.as_str().is_none_or(|label| label != *told)
    })?;
    let mut patch = Patch::new(raw);
    patch.replace(label.range(), quote(told));
    patch.replace(kind.range(), quote(if told == PDF { "document" } else { "image" }));
    Some(patch.apply())
}

/// True for an address on the web.
pub(crate) fn is_web(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

fn base64_block(kind: &str, media_type: &str, data: &str, title: Option<&str>) -> String {
    let title = title.map_or_else(String::new, |title| format!(",\"title\":{}", quote(title)));
    format!(
        "{{\"type\":\"{kind}\",\"source\":{{\"type\":\"base64\",\"media_type\":\"{media_type}\",\"data\":{}}}{title}}}",
        quote(data)
    )
}

/// Writes the block for a file that came with the request: a data URL, or base64 whose type its name tells.
pub(crate) fn file(data: &str, name: Option<&str>, path: impl Display) -> Result<String, Fault> {
    let name = name.filter(|name| !name.trim().is_empty());
    if is_web(data) {
        return Ok(document_at(data, name));
    }
    let url = DataUrl::parse(data).unwrap_or_else(|| DataUrl {
        media_type: guessed(name).to_owned(),
        base64: true,
        data,
    });
    let bytes = url.bytes();
    let kind = bytes.as_deref().and_then(told).unwrap_or(&url.media_type);
    if IMAGES.contains(&kind) {
        if bytes.is_none() {
            return Err(wrong(path, "the data is not valid base64").code("invalid_base64_image"));
        }
        return Ok(base64_block("image", kind, url.data, None));
    }
    if kind != PDF && !is_text(kind) {
        let named = if kind.is_empty() {
            "a type that neither it nor its name tells".to_owned()
        } else {
            format!("type `{kind}`")
        };
        return Err(unsupported(
            path,
            format!("files of {named} are not supported; Claude takes PDF, text, JSON and images"),
        )
        .code("unsupported_file"));
    }
    let broken = || {
        Fault::new(FaultKind::InvalidRequest, format!("{path}: the data is not valid base64"))
            .param(path.to_string())
            .code("invalid_base64_file")
    };
    let bytes = bytes.ok_or_else(broken)?;
    if kind == PDF {
        return Ok(base64_block("document", PDF, url.data, name));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(path, "a text file has to be UTF-8"))?;
    let title = name.map_or_else(String::new, |name| format!(",\"title\":{}", quote(name)));
    Ok(format!(
        "{{\"type\":\"document\",\"source\":{{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":{}}}{title}}}",
        quote(&text)
    ))
}

/// Writes the block for a document on the web.
pub(crate) fn document_at(url: &str, name: Option<&str>) -> String {
    let title = name
        .filter(|name| !name.trim().is_empty())
        .map_or_else(String::new, |name| format!(",\"title\":{}", quote(name)));
    format!(
        "{{\"type\":\"document\",\"source\":{{\"type\":\"url\",\"url\":{}}}{title}}}",
        quote(url)
    )
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || matches!(media_type, "application/json" | "application/xml" | "application/yaml")
}

/// The type of data that does not say it, by its name.
fn guessed(name: Option<&str>) -> &'static str {
    let ending =
        name.and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("pdf") => PDF,
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("txt" | "md" | "csv" | "tsv" | "log" | "html" | "xml" | "yaml" | "yml" | "json") => {
            "text/plain"
        }
        _ => "",
    }
}

/// True for the id of a file that the upstream keeps.
pub(crate) fn is_kept(id: &str) -> bool {
    id.starts_with(FILE_ID)
}

/// Writes the block for an image that the upstream keeps.
pub(crate) fn kept_image(id: &str) -> String {
    format!("{{\"type\":\"image\",\"source\":{{\"type\":\"file\",\"file_id\":{}}}}}", quote(id))
}

/// Writes the block for a file that the upstream keeps, if the id is one of its own.
pub(crate) fn kept_file(id: &str, path: impl Display) -> Result<String, Fault> {
    if !is_kept(id) {
        return Err(unsupported(
            path,
            format!(
                "`{id}` is no file of Anthropic's Files API; send the file itself as `file_data`"
            ),
        ));
    }
    Ok(format!(
        "{{\"type\":\"document\",\"source\":{{\"type\":\"file\",\"file_id\":{}}}}}",
        quote(id)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(result: Result<String, Fault>, expect: &str) {
        let came = result
            .unwrap_or_else(|fault| format!("{} {}", fault.code.unwrap_or("-"), fault.message));
        assert!(came.contains(expect), "{came}");
    }

    #[test]
    fn images() {
        check(
            image("https://x/y.png", "p"),
            r#"{"type":"image","source":{"type":"url","url":"https://x/y.png"}}"#,
        );
        check(image("HTTPS://x/Y.png", "p"), r#""url":"https://x/Y.png""#);
        check(
            image("data:image/PNG;base64,aGk=", "p"),
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}"#,
        );
        check(
            image("data:image/jpg;charset=utf-8;base64,aGk=", "p"),
            r#""media_type":"image/jpeg""#,
        );
        check(
            image("data:image/svg+xml;base64,aGk=", "p"),
            "unsupported_image_media_type p: images of type `image/svg+xml`",
        );
        check(image("data:image/png;base64,a*k=", "p"), "invalid_base64_image p: ");
        check(image("data:image/png;base64,", "p"), "invalid_base64_image");
        check(image("data:image/png,abc", "p"), "invalid_base64_image");
        check(image("file:///etc/passwd", "p"), "invalid_image_url");
        check(image("ü", "p"), "invalid_image_url");
    }

    #[test]
    fn bytes_tell_what_a_label_hides() {
        const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";
        check(
            image(&format!("data:image/jpeg;base64,{PNG}"), "p"),
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png""#,
        );
        check(
            image(&format!("data:application/octet-stream;base64,{PNG}"), "p"),
            r#""media_type":"image/png""#,
        );
        check(image("data:image/png;base64,/9j/4AAQSkZJRg==", "p"), r#""media_type":"image/jpeg""#);
        check(image("data:image/png;base64,R0lGODlhAQABAA==", "p"), r#""media_type":"image/gif""#);
        check(
            image("data:image/png;base64,UklGRiQAAABXRUJQVlA4", "p"),
            r#""media_type":"image/webp""#,
        );
        check(
            image("data:image/png;base64,JVBERi0xLjcK", "p"),
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf""#,
        );
        check(
            file("data:application/octet-stream;base64,JVBERi0xLjcK", Some("a.bin"), "p"),
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0xLjcK"},"title":"a.bin"}"#,
        );
        check(
            file(PNG, None, "p"),
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png""#,
        );
        check(
            file("https://x/a.pdf", Some("a.pdf"), "p"),
            r#"{"type":"document","source":{"type":"url","url":"https://x/a.pdf"},"title":"a.pdf"}"#,
        );
        let same = |block: &str| native(&Node::whole(block).unwrap());
        let block = |label: &str| {
            format!(
                r#"{{"type": "image","source":{{"type":"base64","media_type":"{label}","data":"{PNG}"}}}}"#
            )
        };
        assert_eq!(same(&block("image/png")), block("image/png"));
        assert_eq!(same(&block("image/jpeg")), block("image/png"));
        assert_eq!(
            same(r#"{"type":"image","source":{"type":"url","url":"x"}}"#),
            r#"{"type":"image","source":{"type":"url","url":"x"}}"#
        );
    }

    #[test]
    fn files() {
        check(
            file("data:application/pdf;base64,JVBERi0=", Some("a.pdf"), "p"),
            r#""media_type":"application/pdf","data":"JVBERi0="},"title":"a.pdf"}"#,
        );
        check(
            file("JVBERi0=", None, "p"),
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf""#,
        );
        check(
            file("data:text/csv;base64,YSxi", None, "p"),
            r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a,b"}}"#,
        );
        check(
            file("data:application/json;base64,e30=", Some("x"), "p"),
            r#""data":"{}"},"title":"x""#,
        );
        check(file("data:image/png;base64,aGk=", None, "p"), r#"{"type":"image""#);
        check(
            file("data:application/zip;base64,aGk=", None, "p"),
            "unsupported_file p: files of type `application/zip`",
        );
        check(file("aGk=", Some("x.zip"), "p"), "unsupported_file");
        check(file("aGk=", Some("x.PNG"), "p"), r#"{"type":"image""#);
        check(file("data:text/plain;base64,/w==", None, "p"), "has to be UTF-8");
        check(file("data:text/plain;base64,**", None, "p"), "invalid_base64_file");
        check(kept_file("file-abc", "p"), "is no file of Anthropic's");
        check(kept_file("file_011", "p"), r#"{"type":"file","file_id":"file_011"}"#);
    }
}
