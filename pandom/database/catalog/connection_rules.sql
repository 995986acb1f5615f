-- Who may connect from where, in the order in which the server asks.
select
    'connection rule' as kind,
    'rule ' || coalesce(h.rule_number, 0) as object,
    'rule' as detail,
    concat_ws(
        ' ', h.type, array_to_string(h.database, ','), array_to_string(h.user_name, ','),
        h.address, h.netmask, h.auth_method, array_to_string(h.options, ','), h.error
    ) as value
from pg_catalog.pg_hba_file_rules as h;
