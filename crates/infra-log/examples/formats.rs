//! The same events in a format of your choice: `cargo run --example formats -- json`.

use std::error::Error;
use std::time::Duration;

use infra_core::context::{Context, bind};
use infra_log::{LogSettings, Schema};
use tracing::{debug, error, info, info_span, warn};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let format = words.next().unwrap_or_else(|| "console".into()).parse()?;
    let schema = words
        .next()
        .map_or(Ok(Schema::Plain), |word| word.parse())?;
    let settings = LogSettings::new().format(format).schema(schema);
    let log = infra_log::init(settings.level("debug".parse()?).field("service", "desk"))?;

    Context::new().bind("bot_id", "bot_001").sync_scope(|| {
        info!(strategy = "arb_btc", "strategy started");
        let _span = info_span!("execution", day = 3).entered();
        debug!(price = 101.25, token = "never shown", "quote taken");
        warn!(
            url = "redis://app:hidden@db:6379",
            attempt = 2,
            "state is slow"
        );
        if let Err(cause) = "1.x".parse::<f64>() {
            error!(error = &cause as &dyn Error, "order refused");
        }
        bind("order", 7)
            .sync_scope(|| info!(filled = ?Some(3), open = ?None::<u8>, "order filled"));
    });
    log.flush(Duration::from_secs(1))?;
    Ok(())
}
