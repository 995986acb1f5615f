-- Every setting of the server that this login may see, with the place it comes from.
select s.name, s.setting, s.source, s.context
from pg_catalog.pg_settings as s;
