-- Gives a partition row security, FORCE, policies, the dump login's SELECT and a
-- comment; a parent passes none of them on.
set local role pandom_trail;

create or replace function public.protect_partition(log text, name text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    execute format('alter table public.%I enable row level security', name);
    execute format('alter table public.%I force row level security', name);
    execute format(
        'create policy trail_maintenance on public.%I for all to pandom_trail '
        'using (true) with check (true)', name
    );
    execute format(
        'comment on policy trail_maintenance on public.%I is %L', name,
        'The trail''s owner is under FORCE too; nobody else reaches a partition directly.'
    );
    execute format('grant select on public.%I to pandom_user', name);
    execute format(
        'comment on table public.%I is %L', name,
        'A partition of ' || log || '; reached through its parent only.'
    );
end
$$;

comment on function public.protect_partition(text, text) is
'Gives a partition row security, FORCE, policies, grants and a comment.';
