//! What operators write: values of settings.

use bolero::check;
use waystation::config::Config;
use waystation::config::table::SETTINGS;

use super::ITERATIONS;

#[test]
fn setting_value() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Some((choice, value)) = input.split_first() else { return };
        let Ok(value) = std::str::from_utf8(value) else { return };
        let setting = SETTINGS[usize::from(*choice) % SETTINGS.len()];
        match Config::from_pairs([(setting.name, value)]) {
            Ok(config) => assert!(config.unknown_variables.is_empty()),
            Err(errors) => assert!(!errors.to_string().is_empty()),
        }
        let value = value.trim();
        if !value.is_empty() && !setting.kind.accepts(value) {
            assert!(!setting.kind.correction(value).is_empty());
            assert!(Config::from_pairs([(setting.name, value)]).is_err(), "{} = {value:?}", setting.name);
        }
    });
}
