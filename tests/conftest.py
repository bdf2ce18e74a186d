"""Set-up that must come before litellm is imported. Fixtures live beside the tests that use them."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or `import litellm` waits for the network
