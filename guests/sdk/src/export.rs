//! `export!`: the component's exports, made from the guest's traits.

/// Exports a guest: `export!(MyGuest: publish);`, with any of `publish`, `access`, `enhanced_access`, `events`,
/// `downlink` after the colon.
///
/// The component also exports `lifecycle`, which makes the guest by [`Guest::start`](crate::Guest::start) when the host starts an
/// instance. Use it once, in the crate that is the component (`crate-type = ["cdylib"]`).
#[macro_export]
macro_rules! export {
    ($guest:ident: $($interface:ident),+ $(,)?) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::OnceCell<$guest> = const { ::std::cell::OnceCell::new() };
            }

            /// The guest of this instance; made here if the host has not asked for it before.
            fn with<T, E>(call: impl FnOnce(&$guest) -> Result<T, E>, failed: impl FnOnce(String) -> E) -> Result<T, E> {
                $crate::__during_call(|| {
                    INSTANCE.with(|instance| match instance.get() {
                        Some(guest) => call(guest),
                        None => match <$guest as $crate::Guest>::start() {
                            Ok(guest) => call(instance.get_or_init(|| guest)),
                            Err(problem) => Err(failed(problem)),
                        },
                    })
                })
            }

            struct Exported;

            impl $crate::bindings::lifecycle::exports::hookgate::guest::lifecycle::Guest for Exported {
                fn start() -> Result<$crate::bindings::lifecycle::exports::hookgate::guest::lifecycle::Manifest, String> {
                    with(|_| Ok(()), |problem| problem)?;
                    let texts = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
                    Ok($crate::bindings::lifecycle::exports::hookgate::guest::lifecycle::Manifest {
                        hooks: texts(<$guest as $crate::Guest>::HOOKS),
                        required_settings: texts(<$guest as $crate::Guest>::REQUIRED_SETTINGS),
                    })
                }
            }
            $crate::bindings::lifecycle::export_lifecycle!(Exported with_types_in $crate::bindings::lifecycle);
            $($crate::__export_interface!($guest, $interface);)+
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            // The same bounds, so that `cargo check` says what is missing.
            const _: fn() -> Result<$guest, String> = <$guest as $crate::Guest>::start;
            $($crate::__check_interface!($guest, $interface);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_interface {
    ($guest:ident, publish) => {
        impl $crate::bindings::publish::exports::hookgate::guest::publish::Guest for Exported {
            fn handle(context: $crate::Context, client: $crate::Client, message: $crate::Message) -> Result<$crate::PublishVerdict, $crate::Fault> {
                with(|guest| <$guest as $crate::Publish>::handle(guest, &context, &client, message), $crate::Fault::Internal)
            }
        }
        impl $crate::bindings::publish::exports::hookgate::guest::packed_publish::Guest for Exported {
            fn handle(event: Vec<u8>) -> Result<$crate::PublishVerdict, $crate::Fault> {
                let judge = |guest: &$guest| {
                    let (context, client, message) = $crate::packed::read(event)?;
                    <$guest as $crate::Publish>::handle(guest, &context, &client, message)
                };
                with(judge, $crate::Fault::Internal)
            }
        }
        $crate::bindings::publish::export_publish!(Exported with_types_in $crate::bindings::publish);
    };
    ($guest:ident, access) => {
        impl $crate::bindings::access::exports::hookgate::guest::access::Guest for Exported {
            fn authenticate(context: $crate::Context, client: $crate::Client, credentials: $crate::Credentials) -> Result<$crate::Answer, $crate::Fault> {
                with(|guest| <$guest as $crate::Access>::authenticate(guest, &context, &client, credentials), $crate::Fault::Internal)
            }

            fn authorize(
                context: $crate::Context,
                client: $crate::Client,
                action: $crate::Action,
                topic: String,
            ) -> Result<$crate::Answer, $crate::Fault> {
                with(|guest| <$guest as $crate::Access>::authorize(guest, &context, &client, action, topic), $crate::Fault::Internal)
            }
        }
        $crate::bindings::access::export_access!(Exported with_types_in $crate::bindings::access);
    };
    ($guest:ident, enhanced_access) => {
        impl $crate::bindings::enhanced_access::exports::hookgate::guest::enhanced_access::Guest for Exported {
            fn step(context: $crate::Context, client: $crate::Client, exchange: $crate::Exchange) -> Result<$crate::EnhancedVerdict, $crate::Fault> {
                with(|guest| <$guest as $crate::EnhancedAccess>::step(guest, &context, &client, exchange), $crate::Fault::Internal)
            }
        }
        $crate::bindings::enhanced_access::export_enhanced_access!(Exported with_types_in $crate::bindings::enhanced_access);
    };
    ($guest:ident, events) => {
        impl $crate::bindings::events::exports::hookgate::guest::events::Guest for Exported {
            fn handle(context: $crate::Context, client: $crate::Client, detail: $crate::Detail) -> Result<$crate::EventVerdict, $crate::Fault> {
                with(|guest| <$guest as $crate::Events>::handle(guest, &context, &client, detail), $crate::Fault::Internal)
            }
        }
        $crate::bindings::events::export_events!(Exported with_types_in $crate::bindings::events);
    };
    ($guest:ident, downlink) => {
        impl $crate::bindings::downlink::exports::hookgate::guest::downlink::Guest for Exported {
            fn handle(
                context: $crate::Context,
                downlink: String,
                fetched: $crate::Fetched,
                messages: Vec<$crate::Message>,
            ) -> Result<$crate::DownlinkVerdict, $crate::Fault> {
                with(|guest| <$guest as $crate::Downlink>::handle(guest, &context, &downlink, fetched, messages), $crate::Fault::Internal)
            }
        }
        $crate::bindings::downlink::export_downlink!(Exported with_types_in $crate::bindings::downlink);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __check_interface {
    ($guest:ident, publish) => {
        const _: fn(&$guest, &$crate::Context, &$crate::Client, $crate::Message) -> Result<$crate::PublishVerdict, $crate::Fault> =
            <$guest as $crate::Publish>::handle;
    };
    ($guest:ident, access) => {
        const _: fn(&$guest, &$crate::Context, &$crate::Client, $crate::Credentials) -> Result<$crate::Answer, $crate::Fault> =
            <$guest as $crate::Access>::authenticate;
    };
    ($guest:ident, enhanced_access) => {
        const _: fn(&$guest, &$crate::Context, &$crate::Client, $crate::Exchange) -> Result<$crate::EnhancedVerdict, $crate::Fault> =
            <$guest as $crate::EnhancedAccess>::step;
    };
    ($guest:ident, events) => {
        const _: fn(&$guest, &$crate::Context, &$crate::Client, $crate::Detail) -> Result<$crate::EventVerdict, $crate::Fault> =
            <$guest as $crate::Events>::handle;
    };
    ($guest:ident, downlink) => {
        const _: fn(
            &$guest,
            &$crate::Context,
            &str,
            $crate::Fetched,
            Vec<$crate::Message>,
        ) -> Result<$crate::DownlinkVerdict, $crate::Fault> = <$guest as $crate::Downlink>::handle;
    };
}
