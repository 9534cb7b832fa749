//! tmp
fn main() {
    let mut s: heaptide_ebpf::Settings = bytemuck::Zeroable::zeroed();
    s.capacity = 1000; s.sample_from = 500; s.stacks = 1;
    match heaptide::kernel::Kernel::load(&s) {
        Ok(mut k) => { println!("loaded, {} bytes", k.map_bytes()); for l in k.attach_tracepoints() { println!("{l}"); } }
        Err(e) => println!("{e}"),
    }
}
