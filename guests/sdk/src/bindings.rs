//! What wit-bindgen makes of `wit/guest.wit`: a module per exported interface, so that a guest exports what it names and nothing else,
//! and one for the capabilities, of which a component imports only the functions that it calls.
//!
//! The vocabulary is generated once, with `publish`; the others refer to it.
#![allow(unsafe_code, missing_docs, clippy::all, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

pub mod publish {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world exporting-publish { export hookgate:guest/publish@0.1.0; export hookgate:guest/packed-publish@0.1.0; }",
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_publish",
    });
}

pub mod access {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world exporting-access { export hookgate:guest/access@0.1.0; }",
        with: { "hookgate:guest/types@0.1.0": super::publish::hookgate::guest::types },
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_access",
    });
}

pub mod enhanced_access {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world exporting-enhanced-access { export hookgate:guest/enhanced-access@0.1.0; }",
        with: { "hookgate:guest/types@0.1.0": super::publish::hookgate::guest::types },
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_enhanced_access",
    });
}

pub mod events {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world exporting-events { export hookgate:guest/events@0.1.0; }",
        with: { "hookgate:guest/types@0.1.0": super::publish::hookgate::guest::types },
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_events",
    });
}

pub mod downlink {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world exporting-downlink { export hookgate:guest/downlink@0.1.0; }",
        with: { "hookgate:guest/types@0.1.0": super::publish::hookgate::guest::types },
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_downlink",
    });
}

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world exporting-lifecycle { export hookgate:guest/lifecycle@0.1.0; }",
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
    });
}

pub mod capabilities {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package hookgate:sdk; world all-capabilities { include hookgate:guest/capabilities@0.1.0; }",
        additional_derives: [PartialEq],
        generate_all,
    });
}
