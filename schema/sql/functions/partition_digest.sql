-- How many rows a partition has, and the digest of what read_partition() gives.
--
-- The digest is the SHA-256 of the lines' SHA-256 digests in order: a plain one over
-- all lines would need the whole partition as one text, and that ends at 1 GB.
set local role pandom_trail;

create or replace function public.partition_digest(
    name text, out row_count bigint, out sha256 text
)
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    select count(*), encode(pg_catalog.sha256(coalesce(
        string_agg(pg_catalog.sha256(convert_to(r.line, 'UTF8')), ''::bytea order by r.number),
        ''::bytea
    )), 'hex')
    into row_count, sha256
    from public.read_partition(partition_digest.name) with ordinality as r (line, number);
end
$$;

comment on function public.partition_digest(text) is
'Rows of a partition and the digest of its export.';
