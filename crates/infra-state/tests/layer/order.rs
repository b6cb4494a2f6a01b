//! Layers in an order, and what the store can do with them.

use super::*;

fn refused(layers: Layers) -> String {
    let error = StateStore::layered(memory(), &layers, StoreOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidLayers);
    assert_eq!(
        (error.class(), error.outcome()),
        (Class::Permanent, Outcome::NotApplied)
    );
    error.to_string()
}

#[test]
fn an_order_that_makes_no_sense_is_refused_and_says_why() {
    let new = Layers::new;
    let retry = Retry::exponential().build().unwrap();
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let compression = Compression::above(100);
    let shown = refused(new().encryption(ring(1)).compression(compression));
    assert!(
        shown.contains("`compression` has to come before `encryption`"),
        "{shown}"
    );
    let shown = refused(new().breaker(breaker.clone()).retry(&retry));
    assert!(
        shown.contains("`retry` has to come before `breaker`"),
        "{shown}"
    );
    let shown = refused(
        new()
            .tracing()
            .timeout(AttemptTimeouts::new(Duration::MAX))
            .tracing(),
    );
    assert!(shown.contains("`tracing`"), "{shown}");
    for layers in [
        new()
            .faults(Faults::seeded(1))
            .timeout(AttemptTimeouts::new(Duration::MAX)),
        new()
            .timeout(AttemptTimeouts::new(Duration::MAX))
            .breaker(breaker),
        new().metrics().tracing(),
        new().tracing().tenant("a"),
        new().tenant("a").size_limits(SizeLimits::new()),
        new().tenant("a").tenant("b"),
        new()
            .encryption(ring(1))
            .custom("c", |inner| inner)
            .compression(compression),
        new().tracing().custom("c", |inner| inner).tracing(),
    ] {
        refused(layers);
    }
    let twice = new()
        .custom("c", |inner| inner)
        .tracing()
        .custom("c", |inner| inner);
    assert!(StateStore::layered(memory(), &twice, StoreOptions::new()).is_ok());
    assert_eq!(format!("{twice:?}"), r#"["c", "tracing", "c"]"#);
}

#[tokio::test]
async fn stores_made_by_name_have_their_layers_too() {
    let options = StateOptions::new().layers(Layers::new().tenant("acme"));
    let store = create_state_store("memory", options).await.unwrap();
    assert_eq!(store.capabilities().max_key_bytes, 1024 - "acme:".len());
    let senseless = StateOptions::new().layers(Layers::new().tracing().tracing());
    let error = create_state_store("memory", senseless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidLayers);
}

#[test]
fn requirements_hold_for_what_the_layers_leave() {
    struct Blind(Arc<dyn StateDriver>);
    impl Forward for Blind {
        fn inner(&self) -> &dyn StateDriver {
            &*self.0
        }
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities().with_watch(false)
        }
    }
    let options = StoreOptions::new().requires(Requirement::Watch);
    let layers = Layers::new().custom("blind", |inner| Arc::new(Blind(inner)));
    let error = StateStore::layered(memory(), &layers, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
