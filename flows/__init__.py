"""onedeal's flows: what `onedeal` and the Prefect deployments run over the dbt project.

Each module is one flow or one thing that flows share. Every step is a plain function, so that it
can run from a shell, from a test, or wrapped as a task, without a server.
"""

__version__ = "0.1.0"
