-- Event triggers: they run in everybody's DDL.
select
    'event trigger' as kind,
    quote_ident(e.evtname) as object,
    'definition' as detail,
    e.evtevent || ' ' || e.evtfoid::regprocedure || ' '
    || case e.evtenabled when 'D' then 'disabled' when 'O' then 'enabled' else 'always' end
    as value
from pg_catalog.pg_event_trigger as e;
