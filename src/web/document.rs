//! Constant responses: a page with its own style and scripts, and the files that go with it. Each
//! is hashed and compressed once.

use base64ct::{Base64, Encoding as _};
use miniz_oxide::deflate::compress_to_vec;
use sha2::{Digest as _, Sha256};

/// A page that contains its own style and scripts. The content security policy allows these by
/// their hashes rather than by a nonce, so the page can be the same for every request.
pub(crate) struct Document {
    html: String,
    compressed: Vec<u8>,
    etag: String,
    /// The sources that the policy allows for scripts and for styles.
    scripts: String,
    style: String,
}

impl Document {
    /// Puts the parts into `page`: the style, the scripts (in this order, one for each script
    /// element), and the settings, as the value of an attribute.
    pub(crate) fn new(page: &str, style: &str, scripts: &[&str], settings: &str) -> Document {
        let style = format!("\n{}", bare(style));
        let scripts: Vec<String> = scripts.iter().map(|script| bare(script)).collect();
        let mut html = page.replace("\n{{style}}\n", &style);
        for script in &scripts {
            html = html.replacen("{{script}}", script, 1);
        }
        let html = html.replacen("{{settings}}", &attribute(settings), 1);
        let sources: Vec<String> = scripts.iter().map(|script| source(script)).collect();
        Document {
            compressed: gzip(html.as_bytes()),
            etag: etag(html.as_bytes()),
            html,
            scripts: sources.join(" "),
            style: source(&style),
        }
    }

    /// The part of the content security policy that allows the page's own parts and the files that
    /// go with it.
    pub(crate) fn policy(&self) -> String {
        format!(
            "script-src {}; style-src {}; img-src 'self'; manifest-src 'self'; worker-src 'self'",
            self.scripts, self.style
        )
    }

    pub(crate) fn html(&self) -> &[u8] {
        self.html.as_bytes()
    }

    /// The page in the gzip format.
    pub(crate) fn compressed(&self) -> &[u8] {
        &self.compressed
    }

    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }
}

/// A file that goes with a page.
pub(crate) struct File {
    /// Its media type.
    pub(crate) kind: &'static str,
    pub(crate) content: &'static [u8],
    compressed: Option<Vec<u8>>,
    pub(crate) etag: String,
}

impl File {
    pub(crate) fn new(kind: &'static str, content: &'static [u8]) -> File {
        File {
            kind,
            content,
            // A PNG file is compressed already.
            compressed: (kind != "image/png").then(|| gzip(content)),
            etag: etag(content),
        }
    }

    /// The content in gzip format, if that is shorter.
    pub(crate) fn compressed(&self) -> Option<&[u8]> {
        self.compressed.as_deref()
    }
}

/// Removes indentation, and lines that are comments: a fifth of the bytes that browsers receive.
/// Scripts and styles contain no multi-line strings.
fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut is_comment = false;
    for line in text.lines().map(str::trim) {
        is_comment |= line.starts_with("/*");
        if !is_comment && !line.is_empty() && !line.starts_with("//") {
            bare += line;
            bare.push('\n');
        }
        is_comment &= !line.ends_with("*/");
    }
    bare
}

/// Escapes text for the value of an attribute in double quotes.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

/// Returns the content security policy's source for an inline part.
fn source(part: &str) -> String {
    format!(
        "'sha256-{}'",
        Base64::encode_string(&Sha256::digest(part.as_bytes()))
    )
}

fn etag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    format!("\"{}\"", Base64::encode_string(&hash[..15]))
}

/// Compresses into the gzip format (RFC 1952).
fn gzip(content: &[u8]) -> Vec<u8> {
    // No name, no time, an unknown system.
    let mut all = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    all.extend(compress_to_vec(content, 9));
    all.extend(crc32(content).to_le_bytes());
    all.extend((content.len() as u32).to_le_bytes());
    all
}

fn crc32(content: &[u8]) -> u32 {
    !content.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let zipped = gzip(b"hello hello hello");
        let inflated = miniz_oxide::inflate::decompress_to_vec(&zipped[10..zipped.len() - 8]);
        assert_eq!(inflated.unwrap(), b"hello hello hello");
    }

    #[test]
    fn comments_and_indentation_are_removed() {
        let script = "// why\n/** What. */\n  a(); // stays\n/**\n * More.\n */\n* { b: 1 }\n\n";
        assert_eq!(bare(script), "a(); // stays\n* { b: 1 }\n");
    }

    #[test]
    fn policy_has_the_hashes_of_the_parts_as_they_are_in_the_page() {
        let page = "<style>\n{{style}}\n</style><body data-a=\"{{settings}}\"><script>{{script}}</script><script>{{script}}</script>";
        let document = Document::new(page, "a {}\n", &["b()\n", "  // why\n  c()\n"], "\"&<");
        let html = String::from_utf8(document.html().to_vec()).unwrap();
        assert_eq!(
            html,
            "<style>\na {}\n</style><body data-a=\"&quot;&amp;&lt;\"><script>b()\n</script><script>c()\n</script>"
        );
        for part in ["\na {}\n", "b()\n", "c()\n"] {
            assert!(document.policy().contains(&source(part)), "{part:?}");
        }
    }
}
