//! URLs, as JavaScript's constructor needs them.

use super::raw::{Function, Js, Value, entry};
use crate::url::{self, Parsed, Target};

pub const FUNCTIONS: &[Function] = &[("parseUrl", parse_url)];

entry! {
    /// `parseUrl(text)`: `{ target: { model, id }, unknown: [names], ignored: path }` or `{ error: { code, message, cause } }`.
    parse_url(1) |js, args| {
        let text = js.string(args[0]).unwrap_or_default();
        match url::parse(&text) {
            Ok(parsed) => described(js, &parsed),
            Err(error) => js.object(&[("error", js.error(&error))]),
        }
    }
}

fn described(js: Js, parsed: &Parsed) -> Value {
    let (model, id) = match &parsed.target {
        Target::Spm { id } => ("spm", id.as_str()),
        Target::Mpm { id } => ("mpm", id.as_str()),
        Target::Lpm { id, .. } => ("lpm", id.as_str()),
        Target::Remote(remote) => ("rpm", url::shown(&remote.id)),
    };
    let target = js.object(&[("model", js.text(model)), ("id", js.text(id))]);
    let unknown = js.array(parsed.unknown_parameters.iter().map(|name| js.text(name)));
    let ignored = js.text(&parsed.ignored_path);
    js.object(&[("target", target), ("unknown", unknown), ("ignored", ignored)])
}
