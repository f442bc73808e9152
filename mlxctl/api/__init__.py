"""The HTTP API that a cluster serves: OpenAI's chat completions, models, health and status. Entry: `app.create_app`."""
