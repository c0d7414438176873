//! The smallest guest: copy this folder to begin your own, then change its name in `Cargo.toml`.

use hookgate_guest::prelude::*;

struct Template {
    greeting: String,
}

impl Guest for Template {
    fn start() -> Result<Self, String> {
        Ok(Template { greeting: settings::get_or("greeting", "hello".to_owned())? })
    }
}

impl Publish for Template {
    fn handle(&self, _context: &Context, client: &Client, message: Message) -> Result<PublishVerdict, Fault> {
        if message.payload.is_empty() {
            return Ok(PublishVerdict::deny(reason::PAYLOAD_FORMAT_INVALID, "empty"));
        }
        Ok(PublishVerdict::change().header("greeting", format!("{} {}", self.greeting, client.client_id)).into())
    }
}

hookgate_guest::export!(Template: publish);

#[cfg(test)]
mod tests {
    use hookgate_guest::testing;

    use super::*;

    #[test]
    fn greets_the_full_and_refuses_the_empty() {
        testing::set("greeting", "ahoy");
        let guest = Template::start().expect("a good setting");
        let judge = |payload: &str| guest.handle(&testing::context(), &testing::client("c1"), testing::message("t", payload));
        assert_eq!(judge("x"), Ok(PublishVerdict::change().header("greeting", "ahoy c1").into()));
        assert_eq!(judge(""), Ok(PublishVerdict::deny(0x99, "empty")));
    }
}
