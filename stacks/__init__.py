"""The components of the stack, one file each, in the order in which they are made.

``network`` the private network; ``images`` what the containers run; ``keys``
secrets and certificates, one volume per reader; ``database`` PostgreSQL;
``access`` roles and grants (pulumi-postgresql); ``cluster`` what only a superuser
can do; ``migration`` schema, row security, privileges, administrator;
``storage`` the object store, its bucket and its limited user; ``operations`` the
scheduled tasks. ``container`` is the one factory of containers, ``job`` the one-shot
container whose exit code decides, ``settings`` the one reader of configuration.

This folder also holds the stacks' files, ``Pulumi.<stack>.yaml``: copies of
``templates/`` that git ignores.
"""
