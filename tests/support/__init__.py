"""What tests share: independent model, checker, fault campaign, waiting with a bound."""
