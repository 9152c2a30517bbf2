//! Whether a resource makes sense by itself. Each refusal names the field and says what to write instead; all of them
//! are told at once.

mod auth;

pub use auth::{PROVIDER_TIMEOUT_MS_MAX, SECRET_BYTES_MIN};

use super::{
    origin::OriginPattern,
    problem::Problem,
    resource::{BindingSpec, ChannelRulesSpec, HubSpec, LimitsSpec, Resource},
};
use crate::channel::is_valid_name;

/// The most copies that a channel may ask for.
pub const REDUNDANCY_MAX: u8 = 3;
const ORIGINS_MAX: usize = 100;
const NAME_RULE: &str = "Write 1 to 255 bytes without control characters.";

impl Resource {
    /// All that is wrong with the resource; nothing if it may be used.
    pub fn problems(&self) -> Vec<Problem> {
        let mut check = Check::default();
        match self {
            Resource::Hub { name, spec } => {
                check.name("name", name);
                check.hub(spec);
            }
            Resource::ChannelRules { hub, name, spec } => {
                check.name("hub", hub);
                check.name("name", name);
                check.rules(spec);
            }
            Resource::Namespace { hub, name, spec: BindingSpec { rules } } => {
                check.name("hub", hub);
                check.name("name", name);
                check.that(
                    !name.contains(':'),
                    "name",
                    "Write the namespace without `:`, the text before the first one.",
                );
                check.name("spec.rules", rules);
            }
            Resource::Channel { hub, name, spec: BindingSpec { rules } } => {
                check.name("hub", hub);
                check.name("name", name);
                check.name("spec.rules", rules);
            }
            Resource::AuthProvider { hub, spec } => {
                check.name("hub", hub);
                check.auth(spec);
            }
        }
        check.problems
    }
}

/// Collects problems.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn that(&mut self, holds: bool, field: &str, sentence: &str) {
        if !holds {
            self.problems.push(Problem::new(field, sentence));
        }
    }

    fn name(&mut self, field: &str, name: &str) {
        self.that(is_valid_name(name), field, NAME_RULE);
    }

    fn hub(&mut self, spec: &HubSpec) {
        let HubSpec { default_public: _, allow_anonymous: _, user_channel: _, default_rules, allowed_origins, limits } =
            spec;
        if let Some(rules) = default_rules {
            self.name("spec.defaultRules", rules);
        }
        self.that(allowed_origins.len() <= ORIGINS_MAX, "spec.allowedOrigins", "List at most 100 origins.");
        for (index, origin) in allowed_origins.iter().enumerate() {
            let readable = origin.parse::<OriginPattern>().is_ok();
            self.that(readable, &format!("spec.allowedOrigins[{index}]"), origin_sentence(origin));
        }
        self.limits(limits);
    }

    fn limits(&mut self, limits: &LimitsSpec) {
        let LimitsSpec { connections, messages_per_second, session_messages_per_second, channels_per_session } =
            *limits;
        for (field, limit) in [
            ("connections", connections),
            ("messagesPerSecond", messages_per_second),
            ("sessionMessagesPerSecond", session_messages_per_second),
            ("channelsPerSession", channels_per_session),
        ] {
            let sentence = "Write 1 or more, or leave it out for the node's own default.";
            self.that(limit != Some(0), &format!("spec.limits.{field}"), sentence);
        }
    }

    fn rules(&mut self, spec: &ChannelRulesSpec) {
        let sentence = "Write 0 to 3, the number of copies on further nodes.";
        self.that(spec.redundancy <= REDUNDANCY_MAX, "spec.redundancy", sentence);
    }
}

fn origin_sentence(origin: &str) -> &'static str {
    match origin {
        "null" => "Pages without an origin are let in only by `*`, which lets in all.",
        _ if origin.contains("://") && origin.trim_end_matches('/') != origin => "Leave out the `/` at the end.",
        _ if !origin.is_ascii() => "Write the host in its ASCII form, which begins with xn--, as browsers send it.",
        _ => "Write scheme://host, scheme://host:port, https://*.host for all hosts below it, or `*` for all.",
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::resource::Resource;

    /// The fields that are refused, in order.
    pub(super) fn refused(json: &str) -> Vec<String> {
        let resource: Resource = serde_json::from_str(json).expect(json);
        let problems = resource.problems();
        for problem in &problems {
            assert!(problem.sentence.ends_with('.'), "{problem}");
        }
        problems.into_iter().map(|problem| problem.place).collect()
    }

    fn hub(spec: &str) -> Vec<String> {
        refused(&format!(r#"{{"kind":"Hub","name":"demo","spec":{spec}}}"#))
    }

    #[test]
    fn names() {
        let long = "x".repeat(256);
        for name in ["", "a\\nb", &long] {
            let spec = r#""spec":{"rules":"r"}"#;
            assert_eq!(refused(&format!(r#"{{"kind":"Hub","name":"{name}"}}"#)), ["name"]);
            assert_eq!(refused(&format!(r#"{{"kind":"ChannelRules","hub":"{name}","name":"r"}}"#)), ["hub"]);
            assert_eq!(refused(&format!(r#"{{"kind":"ChannelRules","hub":"h","name":"{name}"}}"#)), ["name"]);
            assert_eq!(refused(&format!(r#"{{"kind":"Channel","hub":"h","name":"{name}",{spec}}}"#)), ["name"]);
            assert_eq!(refused(&format!(r#"{{"kind":"Namespace","hub":"h","name":"{name}",{spec}}}"#)), ["name"]);
        }
        let binding = |kind: &str, name: &str, rules: &str| {
            refused(&format!(r#"{{"kind":"{kind}","hub":"h","name":"{name}","spec":{{"rules":"{rules}"}}}}"#))
        };
        assert_eq!(binding("Namespace", "a:b", "r"), ["name"]);
        assert!(binding("Channel", "a:b", "r").is_empty());
        assert_eq!(binding("Channel", "a", ""), ["spec.rules"]);
    }

    #[test]
    fn hubs() {
        assert!(hub("{}").is_empty());
        assert!(
            hub(r#"{"defaultRules":"r","allowedOrigins":["https://a.example","*"],"limits":{"connections":1}}"#)
                .is_empty()
        );
        assert_eq!(hub(r#"{"defaultRules":""}"#), ["spec.defaultRules"]);
        let origins = r#"{"allowedOrigins":["https://a.example","a.example","null","https://a.example/"]}"#;
        assert_eq!(hub(origins), ["spec.allowedOrigins[1]", "spec.allowedOrigins[2]", "spec.allowedOrigins[3]"]);
        let many = vec![r#""*""#; 101].join(",");
        assert_eq!(hub(&format!(r#"{{"allowedOrigins":[{many}]}}"#)), ["spec.allowedOrigins"]);
        for field in ["connections", "messagesPerSecond", "sessionMessagesPerSecond", "channelsPerSession"] {
            assert_eq!(hub(&format!(r#"{{"limits":{{"{field}":0}}}}"#)), [format!("spec.limits.{field}")]);
            assert!(hub(&format!(r#"{{"limits":{{"{field}":1}}}}"#)).is_empty());
        }
    }

    #[test]
    fn redundancy() {
        let rules =
            |n: u8| refused(&format!(r#"{{"kind":"ChannelRules","hub":"h","name":"r","spec":{{"redundancy":{n}}}}}"#));
        assert!(rules(0).is_empty() && rules(3).is_empty());
        assert_eq!(rules(4), ["spec.redundancy"]);
    }

    #[test]
    fn all_problems_are_told_at_once_and_none_tells_a_secret() {
        let resource = r#"{"kind":"AuthProvider","hub":"","spec":{
            "http":{"url":"hush","headers":{"X":"hush\n"},"timeoutMs":0},"jwt":{"secret":"hush"}}}"#;
        let expected = ["hub", "spec.http.url", "spec.http.headers.X", "spec.http.timeoutMs", "spec.jwt.secret"];
        assert_eq!(refused(resource), expected);
        let resource: Resource = serde_json::from_str(resource).expect("it is JSON");
        assert!(resource.problems().iter().all(|problem| !problem.to_string().contains("hush")));
    }
}
