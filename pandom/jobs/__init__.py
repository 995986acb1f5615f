"""The one-shot containers of ``up``: each module is one job, its ``run`` the whole of it."""
