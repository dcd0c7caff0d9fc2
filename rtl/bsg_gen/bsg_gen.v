// Generates the weights of a slice: zeros - ones of (code vector XOR base register), one weight per cycle.
//
// Both vectors are loaded 16 bits at a time, element 0 first, while no weight is being made; `start` may come with the
// last words. The first weight is valid N/16 + 2 + LOGN cycles after the first word: a register behind the XORs, one
// behind each level of the adder tree, whose sums grow by one bit per level, and one behind the subtraction. With every
// weight the base register moves by one place; its last bit enters again, or, with FEEDBACK, the XOR of four bits.
//
// N = 2^LOGN, at least 32. Everything waits while a weight is valid and not ready.
module bsg_gen #(
    parameter integer N = 256,
    parameter integer LOGN = 8,
    parameter integer FEEDBACK = 0,
    parameter integer TAP_A = 10,
    parameter integer TAP_B = 5,
    parameter integer TAP_C = 2
) (
    input  wire                    clk,
    input  wire                    rst,

    input  wire                    base_we,
    input  wire [15:0]             base_d,
    input  wire                    code_we,
    input  wire [15:0]             code_d,
    output wire                    load_ready,

    input  wire                    start,
    input  wire [15:0]             start_len,

    output wire                    w_valid,
    input  wire                    w_ready,
    output reg  signed [LOGN+1:0]  w,

    output reg  [31:0]             cnt_words,
    output reg  [31:0]             cnt_weights
);
    localparam SUMS = 4*N - LOGN - 3;

    reg  [N-1:0]      base, code;
    reg  [15:0]       left;
    reg  [LOGN+1:0]   valid;
    reg  [SUMS-1:0]   sums;   // level k: N / 2^k sums of k + 1 bits, from bit 4N - 2(k+2)N / 2^k on

    wire              move  = !w_valid || w_ready;
    wire              issue = move && left != 16'd0;
    wire              enter = FEEDBACK != 0 ? base[N-1] ^ base[N-1-TAP_A] ^ base[N-1-TAP_B] ^ base[N-1-TAP_C] : base[N-1];

    assign load_ready = left == 16'd0;
    assign w_valid    = valid[LOGN+1];

    genvar k;
    generate
        for (k = 1; k <= LOGN; k = k + 1) begin : level
            localparam COUNT = N / (1 << k);
            localparam TO    = 4*N - 2*(k+2)*COUNT;
            localparam FROM  = 4*N - 4*(k+1)*COUNT;

            integer i;
            always @(posedge clk)
                if (move && valid[k-1])
                    for (i = 0; i < COUNT; i = i + 1)
                        sums[TO + i*(k+1) +: k+1] <= {1'b0, sums[FROM + 2*i*k +: k]} + {1'b0, sums[FROM + (2*i+1)*k +: k]};
        end
    endgenerate

    always @(posedge clk) begin
        if (base_we && load_ready) base <= {base_d, base[N-1:16]};
        if (code_we && load_ready) code <= {code_d, code[N-1:16]};
        if (issue) begin
            sums[N-1:0] <= base ^ code;
            base <= {base[N-2:0], enter};
        end
        if (rst) begin
            left <= 16'd0;
            valid <= {(LOGN+2){1'b0}};
            w <= {(LOGN+2){1'b0}};
            cnt_words <= 32'd0;
            cnt_weights <= 32'd0;
        end else begin
            if (start && load_ready) left <= start_len;
            else if (issue) left <= left - 16'd1;
            if (move) valid <= {valid[LOGN:0], issue};
            if (move && valid[LOGN]) begin
                w <= {2'b01, {LOGN{1'b0}}} - {sums[SUMS-1 -: LOGN+1], 1'b0};
                cnt_weights <= cnt_weights + 32'd1;
            end
            if (load_ready) cnt_words <= cnt_words + {31'd0, base_we} + {31'd0, code_we};
        end
    end
endmodule
