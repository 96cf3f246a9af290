//! The pages for browsers: the live dashboard and the connection tester. No I/O.
//!
//! Each is one document with its style and its script inside. Its policy names both by their hash and nothing
//! else, so that nothing else can run, whatever a peer sends; and it takes the means to make markup from
//! text away from the script (`require-trusted-types-for`).

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response};

pub(crate) mod meanings;

/// A document, ready to be sent.
struct Page {
    html: Bytes,
    policy: HeaderValue,
}

/// The live dashboard: an empty shell, which asks for the token where there is one.
pub(crate) fn dashboard() -> Response<Bytes> {
    DASHBOARD_PAGE.answer()
}

/// The connection tester; it is the same on the public listeners that serve it.
pub(crate) fn tester() -> Response<Bytes> {
    TESTER_PAGE.answer()
}

static DASHBOARD_PAGE: LazyLock<Page> = LazyLock::new(|| {
    Page::new(
        include_str!("dashboard.html"),
        &[include_str!("common.css"), include_str!("dashboard.css")],
        &[
            include_str!("common.js"),
            include_str!("charts.js"),
            include_str!("sessions.js"),
            include_str!("dashboard.js"),
        ],
        "'self'",
    )
});

static TESTER_PAGE: LazyLock<Page> = LazyLock::new(|| {
    // A data block cannot be ended by what stands in it.
    let tables = meanings::tables().to_string().replace('<', "\\u003c");
    Page::new(
        &include_str!("doctor.html").replace("{{tables}}", &tables),
        &[include_str!("common.css"), include_str!("doctor.css")],
        &[include_str!("common.js"), include_str!("doctor.js")],
        "ws: wss:",
    )
});

impl Page {
    fn new(html: &str, styles: &[&str], scripts: &[&str], connect: &str) -> Self {
        let style = styles.concat();
        // In a function of its own each, so that nothing is global.
        let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", scripts.concat());
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src {connect}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            hash(&script),
            hash(&style),
        );
        Self {
            html: html.replace("{{style}}", &style).replace("{{script}}", &script).into(),
            policy: HeaderValue::try_from(policy).expect("hashes in base64 and constant words"),
        }
    }

    fn answer(&self) -> Response<Bytes> {
        let mut response = Response::new(self.html.clone());
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (OPENER_POLICY, "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}

fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

#[cfg(test)]
mod tests {
    use super::*;

    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        let (_, behind) = text.split_once(begin).unwrap();
        behind.split_once(end).unwrap().0
    }

    #[test]
    fn a_page_is_one_document_and_its_policy_lets_nothing_else_run() {
        for (page, connect) in [(&DASHBOARD_PAGE, "'self'"), (&TESTER_PAGE, "ws: wss:")] {
            let response = page.answer();
            let html = std::str::from_utf8(response.body()).unwrap();
            let policy = response.headers()["content-security-policy"].to_str().unwrap();
            for (begin, end, directive) in
                [("<style>", "</style>", "style-src"), ("<script>", "</script>", "script-src")]
            {
                assert_eq!(html.matches(begin).count(), 1);
                let hash = hash(between(html, begin, end));
                assert!(policy.contains(&format!("{directive} '{hash}';")), "{policy}");
            }
            assert!(policy.starts_with("default-src 'none';"), "{policy}");
            assert!(policy.contains(&format!("connect-src {connect};")), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
            assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
            assert!(!html.contains("{{"), "something was not filled in");
            for outside in ["src=\"http", "href=\"http", "style=\"", " onclick="] {
                assert!(!html.contains(outside), "{outside}");
            }
            let style = between(html, "<style>", "</style>");
            for outside in ["url(", "@import"] {
                assert!(!style.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn scripts_never_make_markup_from_text_and_keep_nothing_but_the_theme() {
        for page in [&DASHBOARD_PAGE, &TESTER_PAGE] {
            let html = std::str::from_utf8(&page.html).unwrap();
            let script = between(html, "<script>", "</script>");
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "sessionStorage",
            ] {
                assert!(!script.contains(forbidden), "{forbidden}");
            }
            let kept: Vec<_> = script.match_indices("localStorage.setItem(").collect();
            assert_eq!(kept.len(), 1, "{kept:?}");
            assert!(script.contains("localStorage.setItem(\"framegate-theme\""));
        }
    }

    #[test]
    fn the_tester_has_the_tables() {
        let html = std::str::from_utf8(&TESTER_PAGE.html).unwrap();
        let tables = between(html, "id=\"tables\">", "</script>");
        let tables: serde_json::Value = serde_json::from_str(tables).unwrap();
        assert_eq!(tables, meanings::tables());
    }
}
