//! The description of the API as a page for people.

use serde_json::{Map, Value};

/// The description as a page.
pub fn html(document: &Value) -> String {
    let mut text = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>adlake API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/docs.css\"></head>\
         <body><main><h1>adlake API</h1><p>The same for programs: <a href=\"/openapi.json\">/openapi.json</a></p>",
    );
    let empty = Map::new();
    let object = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    for (path, operations) in document["paths"].as_object().unwrap_or(&empty) {
        for (method, operation) in object(operations) {
            let method = method.to_uppercase();
            text.push_str(&format!("<section><h2><code>{method} {}</code></h2>", escaped(path)));
            text.push_str(&format!("<p>{}</p>", escaped(operation["summary"].as_str().unwrap_or_default())));
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            if !parameters.is_empty() {
                text.push_str("<table><caption>Parameters</caption><tr><th>name</th><th>in</th><th>meaning</th></tr>");
                for parameter in parameters {
                    let cell = |name: &str| escaped(parameter[name].as_str().unwrap_or_default());
                    let cells = (cell("name"), cell("in"), cell("description"));
                    text.push_str(&format!(
                        "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                        cells.0, cells.1, cells.2
                    ));
                }
                text.push_str("</table>");
            }
            text.push_str("<table><caption>Answers</caption><tr><th>status</th><th>meaning</th></tr>");
            for (status, response) in object(&operation["responses"]) {
                let meaning = escaped(response["description"].as_str().unwrap_or_default());
                text.push_str(&format!("<tr><td><code>{}</code></td><td>{meaning}</td></tr>", escaped(&status)));
            }
            text.push_str("</table></section>");
        }
    }
    text.push_str("<h2>Schemas</h2>");
    for (name, schema) in object(&document["components"]["schemas"]) {
        let shown = serde_json::to_string_pretty(&schema).unwrap_or_default();
        text.push_str(&format!("<section><h3>{}</h3><pre>{}</pre></section>", escaped(&name), escaped(&shown)));
    }
    text.push_str("</main></body></html>");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
