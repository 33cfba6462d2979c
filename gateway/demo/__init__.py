"""The demonstration: a flaky shop, an order workflow, a crash, a resume. Everything on this machine."""
