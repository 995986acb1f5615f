-- Publications: what leaves the database by logical replication.
select
    'publication' as kind,
    quote_ident(p.pubname) as object,
    'tables' as detail,
    case
        when p.puballtables then 'all tables'
        else coalesce(
            (
                select
                    string_agg(
                        quote_ident(t.schemaname) || '.' || quote_ident(t.tablename), ', '
                        order by t.schemaname, t.tablename
                    )
                from pg_catalog.pg_publication_tables as t
                where t.pubname = p.pubname
            ),
            'none'
        )
    end as value
from pg_catalog.pg_publication as p;
