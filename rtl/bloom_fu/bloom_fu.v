// An fp32 multiplier of six stages behind Bloom filters: round to nearest even, subnormals in and out flushed to signed
// zero, one quiet NaN. The answer of the filters to the operands of cycle t arrives in t+2 (in_hit, in_bf). A miss loads
// the operands then and clocks all six stages; a hit is a token without data and takes the output of its filter from a
// register at the end. Both leave in order, in t+8.
module bloom_fu #(
    parameter integer NBF = 30
) (
    input  wire                    clk,
    input  wire                    rst,

    input  wire                    cfg_we,
    input  wire [$clog2(NBF)-1:0]  cfg_addr,
    input  wire [31:0]             cfg_data,

    input  wire                    in_valid,
    input  wire [31:0]             in_a,
    input  wire [31:0]             in_b,
    input  wire                    in_hit,
    input  wire [$clog2(NBF)-1:0]  in_bf,

    output wire                    out_valid,
    output wire                    out_hit,
    output wire [$clog2(NBF)-1:0]  out_bf,
    output reg  [31:0]             out_result,

    output reg  [31:0]             cnt_stage,
    output reg  [31:0]             cnt_read
);
    localparam BF = $clog2(NBF);

    reg [31:0]     outputs [0:NBF-1];

    // Operands wait for the filters.
    reg            wait1, wait2;
    reg [31:0]     a_wait1, b_wait1, a_wait2, b_wait2;

    // Tokens of the six stages, the first stage lowest.
    reg [5:0]      valid, hits;
    reg [6*BF-1:0] filter;

    // Data of the stages.
    reg [31:0]     a1, b1;
    reg            sign2, nan2, inf2, zero2;
    reg [9:0]      exp2;
    reg [47:0]     product2;
    reg            sign3, nan3, inf3, zero3, half3, rest3;
    reg [9:0]      exp3;
    reg [23:0]     mant3;
    reg            sign4, nan4, inf4, zero4, least4;
    reg [9:0]      exp4;
    reg [22:0]     mant4;
    reg [31:0]     packed5;

    wire [5:0]     clocked = {valid[4:0] & ~hits[4:0], wait2 && !in_hit};
    wire [23:0]    a_mant = {1'b1, a1[22:0]};
    wire [23:0]    b_mant = {1'b1, b1[22:0]};
    wire           a_zero = a1[30:23] == 8'd0;
    wire           b_zero = b1[30:23] == 8'd0;
    wire           a_inf = a1[30:0] == 31'h7F800000;
    wire           b_inf = b1[30:0] == 31'h7F800000;
    wire           a_nan = a1[30:23] == 8'hFF && !a_inf;
    wire           b_nan = b1[30:23] == 8'hFF && !b_inf;
    wire [24:0]    rounded = {1'b0, mant3} + {24'd0, half3 && (rest3 || mant3[0])};
    wire [9:0]     carried = exp3 + {9'd0, rounded[24]};
    wire           over4 = !exp4[9] && exp4 >= 10'd255;
    wire           under4 = exp4[9] || exp4 == 10'd0;

    assign out_valid = valid[5];
    assign out_hit = valid[5] && hits[5];
    assign out_bf = valid[5] && hits[5] ? filter[5*BF +: BF] : {BF{1'b0}};

    function [31:0] ones;
        input [5:0] bits;
        ones = {31'd0, bits[0]} + {31'd0, bits[1]} + {31'd0, bits[2]} + {31'd0, bits[3]} + {31'd0, bits[4]}
            + {31'd0, bits[5]};
    endfunction

    always @(posedge clk) begin
        if (cfg_we) outputs[cfg_addr] <= cfg_data;
    end

    always @(posedge clk) begin
        if (in_valid) begin
            a_wait1 <= in_a;
            b_wait1 <= in_b;
        end
        if (wait1) begin
            a_wait2 <= a_wait1;
            b_wait2 <= b_wait1;
        end
        if (clocked[0]) begin
            a1 <= a_wait2;
            b1 <= b_wait2;
        end
        if (clocked[1]) begin
            sign2 <= a1[31] ^ b1[31];
            nan2 <= a_nan || b_nan || (a_inf && b_zero) || (b_inf && a_zero);
            inf2 <= a_inf || b_inf;
            zero2 <= a_zero || b_zero;
            exp2 <= {2'd0, a1[30:23]} + {2'd0, b1[30:23]} - 10'd127;
            product2 <= {24'd0, a_mant} * {24'd0, b_mant};
        end
        if (clocked[2]) begin
            {sign3, nan3, inf3, zero3} <= {sign2, nan2, inf2, zero2};
            exp3 <= exp2 + {9'd0, product2[47]};
            mant3 <= product2[47] ? product2[47:24] : product2[46:23];
            half3 <= product2[47] ? product2[23] : product2[22];
            rest3 <= product2[47] ? product2[22:0] != 23'd0 : product2[21:0] != 22'd0;
        end
        if (clocked[3]) begin
            {sign4, nan4, inf4, zero4} <= {sign3, nan3, inf3, zero3};
            exp4 <= carried;
            mant4 <= rounded[24] ? rounded[23:1] : rounded[22:0];
            // just below the least normal number: rounded there as a subnormal would be
            least4 <= exp3 == 10'd0 && mant3 == 24'hFFFFFF;
        end
        if (clocked[4]) begin
            if (nan4) packed5 <= 32'h7FC00000;
            else if (inf4) packed5 <= {sign4, 31'h7F800000};
            else if (zero4) packed5 <= {sign4, 31'd0};
            else if (least4) packed5 <= {sign4, 31'h00800000};
            else if (over4) packed5 <= {sign4, 31'h7F800000};
            else if (under4) packed5 <= {sign4, 31'd0};
            else packed5 <= {sign4, exp4[7:0], mant4};
        end
        if (rst) out_result <= 32'd0;
        else if (valid[4]) out_result <= hits[4] ? outputs[filter[4*BF +: BF]] : packed5;
    end

    always @(posedge clk) begin
        filter <= {filter[5*BF-1:0], in_bf};
        if (rst) begin
            wait1 <= 1'b0;
            wait2 <= 1'b0;
            valid <= 6'd0;
            hits <= 6'd0;
            cnt_stage <= 32'd0;
            cnt_read <= 32'd0;
        end else begin
            wait1 <= in_valid;
            wait2 <= wait1;
            valid <= {valid[4:0], wait2};
            hits <= {hits[4:0], in_hit};
            cnt_stage <= cnt_stage + ones(clocked);
            cnt_read <= cnt_read + {31'd0, valid[4] && hits[4]};
        end
    end
endmodule
