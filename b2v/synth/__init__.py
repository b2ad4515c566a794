"""Making blurry pictures whose sharp frames are known."""
