-- The auditor reads the chain, and nothing else of users (A7).
set local role pandom_trail;

drop policy if exists evidence on public.trail_blocks;
create policy evidence on public.trail_blocks
for select to pandom_auditor
using (true);

comment on policy evidence on public.trail_blocks is
'The auditor reads the chain. A7';
