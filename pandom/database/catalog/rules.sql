-- Rules other than a view's own.
select
    'rule' as kind,
    quote_ident(r.rulename) || ' on ' || r.ev_class::regclass as object,
    'definition' as detail,
    pg_get_ruledef(r.oid) as value
from pg_catalog.pg_rewrite as r
where r.rulename <> '_RETURN' and r.oid >= 16384;
