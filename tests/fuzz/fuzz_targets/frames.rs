//! What is stored, as layers and codecs read it: any bytes are a value or a typed error, never a
//! panic; what was stored through a layer comes back; what was changed under an encryption is
//! never taken for a value; and nothing becomes larger than its bound.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use infra_state::layer::{Compression, EncryptionKey, Keyring, Layers};
use infra_state::{
    Encoding, ErrorKind, MemoryDriver, MemoryOptions, StateDriver, StateStore, StoreOptions,
};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

const MOST: usize = 1 << 20;
const KEY: &str = "k";

struct Stores {
    runtime: Runtime,
    raw: StateStore,
    compressed: StateStore,
    encrypted: StateStore,
    both: StateStore,
    json: StateStore,
}

impl Stores {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let _entered = runtime.enter();
        let driver: Arc<dyn StateDriver> = Arc::new(MemoryDriver::new(MemoryOptions::new()));
        let keys = || Keyring::new("k1", EncryptionKey::new([7; 32])).expect("a key ring");
        let compression = Compression::above(64).max_value_bytes(MOST);
        let options = || StoreOptions::new().encoding(Encoding::MessagePack);
        let layered = |layers: Layers| {
            StateStore::layered(driver.clone(), &layers, options()).expect("layers in order")
        };
        let none = Layers::new;
        let json = StateStore::layered(driver.clone(), &none(), StoreOptions::new());
        Stores {
            raw: layered(none()),
            compressed: layered(none().compression(compression)),
            encrypted: layered(none().encryption(keys())),
            both: layered(
                none()
                    .compression(compression)
                    .encryption(keys().accept_plain(true)),
            ),
            json: json.expect("no layers"),
            runtime,
        }
    }
}

thread_local! {
    static STORES: RefCell<Option<Stores>> = const { RefCell::new(None) };
}

fuzz_target!(|input: (u16, u8, &[u8])| {
    STORES.with_borrow_mut(|stores| {
        let stores = stores.get_or_insert_with(Stores::new);
        stores.runtime.block_on(check(stores, input));
    });
});

async fn check(stores: &Stores, (at, change, bytes): (u16, u8, &[u8])) {
    // Foreign bytes.
    stores
        .raw
        .set_bytes(KEY, bytes.to_vec())
        .await
        .expect("stored");
    for layered in [&stores.compressed, &stores.encrypted, &stores.both] {
        match layered.get_bytes(KEY).await {
            Ok(value) => assert!(value.expect("a value").len() <= MOST.max(bytes.len())),
            Err(error) => assert_typed(error.kind()),
        }
    }
    for store in [&stores.raw, &stores.json, &stores.both] {
        if let Err(error) = store.get::<serde_json::Value>(KEY).await {
            assert_typed(error.kind());
        }
        let _ = store
            .get::<Vec<Option<String>>>(KEY)
            .await
            .map_err(|e| assert_typed(e.kind()));
        let _ = store
            .get::<(u8, f64, bool)>(KEY)
            .await
            .map_err(|e| assert_typed(e.kind()));
    }
    // Our own, as it is and changed.
    for layered in [&stores.compressed, &stores.encrypted, &stores.both] {
        layered
            .set_bytes(KEY, bytes.to_vec())
            .await
            .expect("stored");
        let value = layered.get_bytes(KEY).await.expect("opened");
        assert_eq!(value.as_deref(), Some(bytes));
        let stored = stores
            .raw
            .get_bytes(KEY)
            .await
            .expect("read")
            .expect("a value");
        if change == 0 || stored.is_empty() {
            continue;
        }
        let mut changed = stored.to_vec();
        let place = usize::from(at) % changed.len();
        changed[place] ^= change;
        stores.raw.set_bytes(KEY, changed).await.expect("stored");
        let encrypted = std::ptr::eq(layered, &stores.encrypted);
        match layered.get_bytes(KEY).await {
            Ok(_) => assert!(!encrypted, "a changed value was taken for one"),
            Err(error) => assert_typed(error.kind()),
        }
    }
}

#[track_caller]
fn assert_typed(kind: ErrorKind) {
    assert!(
        matches!(
            kind,
            ErrorKind::Decode
                | ErrorKind::TooLarge
                | ErrorKind::NotEncrypted
                | ErrorKind::UnknownKeyId
                | ErrorKind::WrongKey
                | ErrorKind::Tampered
        ),
        "{kind:?}"
    );
}
