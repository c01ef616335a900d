"""Variables that orchestrators commonly deliver to an agent server in `env`.

A recording leaves out the modules that read one of them, where these are few: else a start that
delivers it is cold, and says so.
"""

from __future__ import annotations

from typing import Final

LIKELY: Final = (
    # the model
    *("LLM_API_KEY", "LLM_MODEL", "LLM_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    *("GEMINI_API_KEY", "GOOGLE_API_KEY", "AZURE_API_KEY", "OPENROUTER_API_KEY", "GROQ_API_KEY"),
    *("MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "LITELLM_LOG", "LITELLM_MODEL_COST_MAP_URL"),
    # clouds
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
    *("AWS_REGION_NAME", "AWS_DEFAULT_REGION", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("CLOUDFLARE_API_TOKEN", "DIGITALOCEAN_TOKEN", "VERCEL_TOKEN"),
    # where the code and the work are
    *("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "BITBUCKET_TOKEN", "GIT_AUTHOR_NAME"),
    *("JIRA_API_TOKEN", "LINEAR_API_KEY", "NOTION_TOKEN", "SLACK_BOT_TOKEN", "HF_TOKEN"),
    *("NPM_TOKEN", "PIP_INDEX_URL", "TAVILY_API_KEY", "SEARCH_API_KEY", "STRIPE_SECRET_KEY"),
    # the network
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "REQUESTS_CA_BUNDLE"),
    *("DATABASE_URL", "REDIS_URL", "DOCKER_HOST", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"),
    # who watches
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME"),
    *("LMNR_PROJECT_API_KEY", "LAMINAR_API_KEY", "POSTHOG_API_KEY", "SENTRY_DSN", "DD_API_KEY"),
    *("DEBUG", "LOG_LEVEL", "LOG_JSON", "CI"),
    # the session
    *("WORKSPACE", "WORKSPACE_BASE", "USER_ID", "SESSION_ID", "CONVERSATION_ID", "SANDBOX_ID"),
    *("RUNTIME_ID", "OH_PERSISTENCE_DIR", "OH_LEASE_TTL_SECONDS", "OH_PRELOAD_TOOLS"),
    *("OH_ENABLE_VSCODE", "OH_STATIC_FILES_PATH", "OH_TELEMETRY_CONSENT"),
    *("OPENHANDS_SUPPRESS_BANNER", "PLAYWRIGHT_BROWSERS_PATH"),
    # the machine
    *("HOME", "USER", "SHELL", "TERM", "EDITOR", "TMPDIR", "TMUX_TMPDIR"),
    # of no particular kind
    *("TOKEN", "API_KEY", "SECRET", "PASSWORD", "PORT", "HOST", "URL", "NAME"),
)
